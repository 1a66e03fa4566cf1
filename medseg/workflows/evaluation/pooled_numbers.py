"""The headline over the instances of all cases together, with bootstrap intervals; two predictions side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medseg.metrics.bootstrap import percentile_interval
from medseg.metrics.instance import froc_curve, iou_hits, pooled_statistic, precision_recall
from medseg.workflows.evaluation.protocol import Instances

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.metrics.instance import Detection, Froc, PrecisionRecall
    from medseg.metrics.instance.resampled import Statistic
    from medseg.workflows.evaluation.protocol import Protocol
    from medseg.workflows.evaluation.score import CaseScore


def pooled_intervals(
    scores: Sequence[CaseScore], protocol: Protocol, others: Sequence[CaseScore] | None = None
) -> tuple[dict[str, Any], ...]:
    """Rows of structure, metric, value, low, high, n (cases), n_subjects; whole subjects are drawn.

    With another prediction also other, difference (value less other, over the cases that both have), difference_low
    and difference_high, from the same draws of both.

    Args:
        scores: of all cases; those of maps of structures have no such rows.
        protocol: its headline says which metrics.
        others: of the predictions that these are compared with.
    """
    out = []
    for name in dict.fromkeys(name for score in scores for name in score.detections):
        mine = [score for score in scores if name in score.detections]
        for metric in protocol.headline:
            statistic = pooled_statistic(_of(mine, name), metric)
            if statistic is None:
                continue
            found = _interval(statistic, mine, protocol)
            if found.estimate != found.estimate:  # no instance to find in any case
                continue
            row = {
                "structure": name, "metric": metric, "value": found.estimate, "low": found.low, "high": found.high,
                "n": found.n, "n_subjects": found.n_groups,
            }  # fmt: skip
            out.append(row | (_beside(mine, others, name, metric, protocol) if others else {}))
    return tuple(out)


def curves(scores: Sequence[CaseScore], protocol: Protocol) -> dict[str, tuple[PrecisionRecall, Froc]]:
    """Structure -> curves of all cases together, at the first IoU of the protocol."""
    iou = (protocol.instances or Instances()).iou[0]
    out = {}
    for name in dict.fromkeys(name for score in scores for name in score.detections):
        masks = [score.detections[name].masks for score in scores if name in score.detections]
        out[name] = precision_recall(masks, iou), froc_curve([iou_hits(case, iou) for case in masks])
    return out


def _beside(
    mine: Sequence[CaseScore], others: Sequence[CaseScore], name: str, metric: str, protocol: Protocol
) -> dict[str, float]:
    theirs = {score.name: score for score in others if name in score.detections}
    both = [score for score in mine if score.name in theirs]
    if not both:
        return {}
    one = pooled_statistic(_of(both, name), metric)
    other = pooled_statistic(_of([theirs[score.name] for score in both], name), metric)
    assert one is not None
    assert other is not None
    found = _interval(lambda times: one(times) - other(times), both, protocol)
    value = _interval(other, both, protocol).estimate
    return {
        "other": value, "difference": found.estimate, "difference_low": found.low, "difference_high": found.high,
    }  # fmt: skip


def _of(scores: Sequence[CaseScore], name: str) -> list[Detection]:
    return [score.detections[name] for score in scores]


def _interval(statistic: Statistic, scores: Sequence[CaseScore], protocol: Protocol):
    return percentile_interval(
        statistic, len(scores), groups=[score.subject for score in scores], level=protocol.level, draws=protocol.draws,
        seed=protocol.seed,
    )  # fmt: skip
