"""What an evaluation found, as the Python interface returns it and as summary.json holds it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import medseg
from medseg.workflows.evaluation.together import Certainty

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medseg.metrics.instance import Froc, PrecisionRecall
    from medseg.metrics.table import Aggregate, Row
    from medseg.workflows.evaluation.pairs import Pairs
    from medseg.workflows.evaluation.protocol import Protocol
    from medseg.workflows.outcome import Failure


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured.

    Args:
        rows: the case table.
        summary: structure -> metric -> aggregate over the cases.
        pairs: which prediction was compared with which reference.
        failures: cases that could not be scored.
        protocol: how it was judged.
        notes: what readers decided and values that belong to no structure, by case.
        diagonals_mm: case -> diagonal of its image; it replaces an infinite distance in penalised means.
        comparison: rows of compare.csv.
        groups: rows of groups.csv.
        sessions: rows of longitudinal.csv.
        pooled: structure -> metric -> value over the instances of all cases together.
        intervals: of the numbers over all instances that stand in the headline, where the maps hold instances; see
            `pooled_numbers.pooled_intervals`.
        curves: structure -> (precision and recall, FROC) of all cases together, likewise.
        certainty: calibration and risk-coverage over the cases, where predictions came with maps of certainty.
    """

    rows: tuple[Row, ...]
    summary: Mapping[str, Mapping[str, Aggregate]]
    pairs: Pairs
    failures: tuple[Failure, ...]
    protocol: Protocol
    notes: tuple[str, ...] = ()
    diagonals_mm: Mapping[str, float] | None = None
    comparison: tuple[Mapping[str, Any], ...] = ()
    groups: tuple[Mapping[str, Any], ...] = ()
    sessions: tuple[Mapping[str, Any], ...] = ()
    pooled: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    intervals: tuple[Mapping[str, Any], ...] = ()
    curves: Mapping[str, tuple[PrecisionRecall, Froc]] = field(default_factory=dict)
    certainty: Certainty = field(default_factory=Certainty)

    @property
    def exit_code(self) -> int:
        """0 all cases scored, 6 some not, 3 none."""
        if not self.failures:
            return 0
        return 6 if len(self.failures) < len(self.pairs.pairs) else 3

    def to_json(self) -> dict[str, Any]:
        """What summary.json holds."""
        return {
            "schema": "medseg-evaluation/1",
            "notice": "research use only; not a medical device",
            "medseg": medseg.__version__,
            "protocol": self.protocol.to_json(),
            "cases": len(self.pairs.pairs),
            "scored": len(self.pairs.pairs) - len(self.failures),
            "missing": list(self.pairs.missing),
            "extra": list(self.pairs.extra),
            "failed": [failure.case for failure in self.failures],
            "structures": {name: dict(metrics) for name, metrics in self.summary.items()},
            "comparison": [dict(row) for row in self.comparison],
            "groups": [dict(row) for row in self.groups],
            "pooled_instances": {name: dict(values) for name, values in self.pooled.items()},
            "pooled_intervals": [dict(row) for row in self.intervals],
            "certainty": self.certainty.to_json(),
            "notes": list(self.notes),
        }
