"""The table at the end: a row a site, a column a model, and under them mean and worst site: a mean hides losers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from medseg.federated.rounds import USED
from medseg.federated.server_table import key_metric, number_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class SiteTable:
    """Scores on every site's own validation cases; on all cases of a held-out site.

    Args:
        metric: the recipe's key metric.
        sites: in their order.
        cases: training cases of each, 0 where it is held out or died.
        scores: model -> site -> value, NaN where there is none.
    """

    metric: str
    sites: tuple[str, ...]
    cases: Mapping[str, int]
    scores: Mapping[str, Mapping[str, float]]

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the table."""
        return ("site", "training cases", *self.scores)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Of the table: the sites, then their mean and the worst of them, over those that have a value."""
        found: list[dict[str, Any]] = [
            {"site": site, "training cases": self.cases[site]} | {name: one[site] for name, one in self.scores.items()}
            for site in self.sites
        ]
        for name, pick in (("mean", _mean), ("worst", max if self.metric.endswith("_mm") else min)):
            row: dict[str, Any] = {"site": name, "training cases": sum(self.cases.values()) if name == "mean" else ""}
            for model, one in self.scores.items():
                values = [value for value in one.values() if not math.isnan(value)]
                row[model] = pick(values) if values else math.nan
            found.append(row)
        return found

    def with_model(self, name: str, scores: Mapping[str, float]) -> SiteTable:
        """With one column more."""
        return replace(self, scores={**self.scores, name: {site: scores.get(site, math.nan) for site in self.sites}})


def site_table(rows: Sequence[Mapping[str, Any]], sites: Sequence[str]) -> SiteTable:
    """Of the last validation in rounds.jsonl; a site that was missing there has NaN."""
    metric = key_metric(rows)
    last = rows[-1]["sites"]
    used = [one for row in rows for one in row["sites"].items() if one[1]["outcome"] == USED]
    cases = {site: next((int(one["cases"]) for name, one in reversed(used) if name == site), 0) for site in sites}
    scores = {site: number_in(last.get(site, {}), metric) for site in sites}
    return SiteTable(metric or "", tuple(sites), cases, {"global": scores})


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
