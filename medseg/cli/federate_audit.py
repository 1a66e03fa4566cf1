"""`medseg federate audit PLACE`: what left a site, what was refused, and what its noisy updates have cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medseg.cli.console import show_json, show_lines, show_table
from medseg.cli.options import Json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medseg.federated.privacy.audit import Audit

_SHOWN = 200


def audit(
    place: Annotated[
        Path,
        typer.Argument(
            metavar="PLACE", show_default=False, help="A site's kit, the output of simulate, or one audit.jsonl."
        ),
    ],
    delta: Annotated[float, typer.Option(min=1e-12, max=0.5, help="Epsilon is stated at this delta.")] = 1e-5,
    json: Json = False,
) -> None:
    """Print every message that left a site, with what it held, and every one that was refused.

    Where updates are noised, epsilon, delta and the level say what they have given away so far.
    """
    from medseg.federated.privacy.audit import read_audits

    found = read_audits(place, delta=delta)
    for one in found:
        left_out = max(0, len(one.rows) - _SHOWN)
        title = f"{one.path}" + (f" (the last {_SHOWN} of {len(one.rows)}; --json has all)" if left_out else "")
        show_table(
            ("time", "task", "verdict", "arrays", "kB", "types", "norm", "numbers or reason"), _rows(one), title=title
        )
        show_lines(_summary(one))
    if json:
        show_json([_plain(one) for one in found])


def _rows(found: Audit) -> Iterator[tuple[str, ...]]:
    for row in found.rows[-_SHOWN:]:
        numbers = row.get("scalars") or {}
        words = ", ".join(f"{name} {value:.6g}" for name, value in numbers.items())
        yield (
            str(row.get("time", "")),
            str(row.get("task", "")),
            str(row.get("verdict", "")),
            str(row.get("arrays", "")),
            f"{row['bytes'] / 1000:.1f}" if "bytes" in row else "",
            ", ".join(row.get("types", [])),
            f"{row['norm']:.4g}" if "norm" in row else "",
            words or " ".join(str(row[key]) for key in ("code", "what") if key in row),
        )


def _summary(found: Audit) -> Iterator[str]:
    from medseg.federated.privacy.manifest import NOTHING, REFUSED, SENT

    counts = (found.count(SENT), found.count(REFUSED), found.count(NOTHING))
    size = found.bytes_sent
    left = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
    yield "{} sent, {} refused, {} without a result; {} left".format(*counts, left)
    if found.broken:
        yield f"warning: {found.broken} lines cannot be read"
    yield "no noise was added: no epsilon" if found.spent is None else str(found.spent)


def _plain(found: Audit) -> dict[str, Any]:
    import math

    spent = None
    if found.spent is not None:
        from medseg.federated.privacy.accountant import LEVEL

        epsilon = found.spent.epsilon if math.isfinite(found.spent.epsilon) else None
        spent = {"epsilon": epsilon, "delta": found.spent.delta, "updates": found.spent.updates, "level": LEVEL}
    return {"path": str(found.path), "rows": list(found.rows), "broken": found.broken, "spent": spent}
