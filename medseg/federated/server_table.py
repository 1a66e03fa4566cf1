"""One round as a line of the table, as numbers over rounds, and the last one as the table that is printed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medseg.federated.rounds import Round


def row_of(number: int, seen: Round, share: Mapping[str, float], why: str) -> dict[str, Any]:
    """A line of rounds.jsonl.

    Args:
        number: of the round, from 0; the last validation is the one behind the last round.
        seen: what came.
        share: of each site in the average.
        why: it was over.
    """
    sites: dict[str, dict[str, Any]] = {}
    for site in seen.targets:
        one: dict[str, Any] = {"outcome": seen.outcome(site)}
        answer = seen.answers.get(site)
        if answer is not None:
            one["after_s"] = round(seen.when[site] - seen.began, 2)
            one |= {"why": answer.why} if answer.why else {}
            update = answer.update
            if update is not None:
                one |= {"cases": update.cases, "steps": update.steps, "share": share.get(site, 0.0)}
            one["metrics"] = dict(answer.metrics if update is None else update.metrics)
        sites[site] = one
    return {"round": number, "over": why, "sites": sites}


def scalars_of(row: Mapping[str, Any]) -> dict[str, float]:
    """A line as TensorBoard shows it: METRIC/SITE, and of every metric without a structure mean and worst site."""
    found: dict[str, float] = {}
    by_metric: dict[str, list[float]] = {}
    for site, one in row["sites"].items():
        for name, value in (one.get("metrics") or {}).items():
            if "/" not in name:
                found[f"{name}/{site}"] = value
                by_metric.setdefault(name, []).append(value)
    for name, values in by_metric.items():
        if name not in ("loss", "seconds"):
            found[f"{name}/mean"] = sum(values) / len(values)
            found[f"{name}/worst"] = max(values) if name.endswith("_mm") else min(values)
    return found | ({"drift": row["drift"]} if "drift" in row else {})


def key_metric(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The first metric that sites told beside loss and seconds: the recipe's key metric."""
    for row in reversed(rows):
        for one in row["sites"].values():
            for name in one.get("metrics") or {}:
                if name not in ("loss", "seconds"):
                    return name
    return None


def number_in(one: Mapping[str, Any], name: str | None) -> float:
    """A metric of a site in a round; NaN where it did not tell it."""
    value = (one.get("metrics") or {}).get(name)
    return math.nan if value is None else float(value)
