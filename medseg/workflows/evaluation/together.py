"""What the case table says of all cases together: aggregates, two predictions compared, groups, sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.metrics.compare import holm, paired_comparison
from medseg.metrics.group_gap import group_gap
from medseg.metrics.instance import Detection, InstanceMetrics, pooled_detection_rows, pooled_rows
from medseg.metrics.selective import RiskCoverage, risk_coverage
from medseg.metrics.table import by_metric, direction, penalised

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medseg.metrics.calibration import Calibration
    from medseg.metrics.table import Row
    from medseg.workflows.evaluation.protocol import Protocol
    from medseg.workflows.evaluation.score import CaseScore


def compared(rows: Sequence[Row], others: Sequence[Row], protocol: Protocol) -> list[dict[str, Any]]:
    """Rows of compare.csv: every metric that has a better and a worse, prediction less the other, paired by case.

    p values are Wilcoxon's, adjusted by Holm over all rows; differences are over subjects.
    """
    other = by_metric(others)
    out = []
    for (structure, metric), found in by_metric(rows).items():
        theirs = {row.case: row.value for row in other.get((structure, metric), ())}
        both = [row for row in found if row.case in theirs]
        if not both or not direction(metric):
            continue
        result = paired_comparison(
            [row.value for row in both], [theirs[row.case] for row in both],
            groups=[row.subject for row in both], level=protocol.level, draws=protocol.draws, seed=protocol.seed,
        )  # fmt: skip
        better = result.mean.estimate * direction(metric)
        out.append({
            "structure": structure, "metric": metric, "definition": both[0].definition,
            "n": result.n, "n_subjects": result.n_subjects, "n_differing": result.n_differing,
            "mean_difference": result.mean.estimate, "low": result.mean.low, "high": result.mean.high,
            "median_difference": result.median.estimate,
            "median_low": result.median.low, "median_high": result.median.high,
            "better": "prediction" if better > 0 else "other" if better < 0 else "neither",
            "p": result.p_value,
        })  # fmt: skip
    for row, adjusted in zip(out, holm([row["p"] for row in out]) if out else (), strict=True):
        row["p_holm"] = float(adjusted)
    return out


def grouped(
    rows: Sequence[Row], group_of: Mapping[str, str], diagonals_mm: Mapping[str, float], protocol: Protocol
) -> list[dict[str, Any]]:
    """Rows of groups.csv: each metric in each group, the worst one marked, with its distance to the best."""
    out = []
    for (structure, metric), found in by_metric(rows).items():
        if not direction(metric):
            continue
        result = group_gap(
            penalised(found, diagonals_mm), [group_of[row.case] for row in found],
            higher_is_better=direction(metric) > 0, subjects=[row.subject for row in found], statistic="mean",
            level=protocol.level, draws=protocol.draws, seed=protocol.seed,
        )  # fmt: skip
        for name, score in result.groups.items():
            out.append({
                "group": name, "structure": structure, "metric": metric, "definition": found[0].definition,
                "n": score.mean.n, "n_subjects": score.mean.n_groups,
                "mean": score.mean.estimate, "low": score.mean.low, "high": score.mean.high,
                "median": score.median.estimate,
                "is_worst": name == result.worst and len(result.groups) > 1, "gap": result.gap,
            })  # fmt: skip
    return out


def pooled(scores: Sequence[CaseScore]) -> dict[str, dict[str, float]]:
    """Structure -> metric -> value over the instances of all cases together, as detection is reported.

    A case table gives a case with one lesion the weight of a case with fifty; here every lesion counts once.
    """
    of: dict[str, list[InstanceMetrics]] = {}
    for score in scores:
        for name, found in score.instances.items():
            of.setdefault(name, []).append(found)
    maps: dict[str, list[Detection]] = {}
    for score in scores:
        for name, found in score.detections.items():
            maps.setdefault(name, []).append(found)
    return {name: dict(pooled_rows(found)) for name, found in of.items()} | {
        name: dict(pooled_detection_rows(found)) for name, found in maps.items()
    }


@dataclass(frozen=True, eq=False)
class Certainty:
    """Certainty over all cases.

    Args:
        calibration: in the foreground of all cases, as if they were one volume.
        curve: risk (1 - mean Dice) against the share of cases kept, the most doubtful handed over first.
    """

    calibration: Calibration | None = None
    curve: RiskCoverage | None = None

    def to_json(self) -> dict[str, float]:
        """The numbers."""
        out = {} if self.calibration is None else {f"{m}_foreground": v for m, v in self.calibration.rows()}
        if self.curve is not None:
            out |= {"aurc": self.curve.aurc, "e_aurc": self.curve.e_aurc, "mean_risk": self.curve.mean_risk}
        return out


def certainty(scores: Sequence[CaseScore]) -> Certainty:
    """What the cases that came with maps of certainty say together; a curve needs two of them."""
    known = [score for score in scores if score.confidence is not None]
    calibrations = [c.calibration for s in known if (c := s.confidence) and c.calibration is not None]
    doubts, risks = [], []
    for score in known:
        dice = [row.value for row in score.rows if row.metric == "dice"]
        if score.confidence is not None and score.confidence.uncertainty is not None and dice:
            doubts.append(score.confidence.uncertainty)
            risks.append(1.0 - float(np.mean(dice)))
    total = None
    for found in calibrations:
        total = found if total is None else total + found
    return Certainty(total, risk_coverage(np.array(risks), np.array(doubts)) if len(doubts) > 1 else None)
