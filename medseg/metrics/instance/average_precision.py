"""Precision and recall as the confidence demanded of an instance falls, and the average precision (AP).

As COCO does it (Lin et al., ECCV 2014; pycocotools), but with no limit on the number of detections: in every case
instances are matched greedily by score, IoU >= threshold; the cases' instances are then pooled and ordered by score,
equal scores in the order given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.metrics.instance.matching import match_greedy
from medseg.metrics.structures import Status, status_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from medseg.metrics.instance.overlaps import Overlaps

#: IoU .1 to .5, the range of medical detection (nnDetection, MONAI), where small structures rarely reach more.
MEDICAL_IOU = tuple(k / 100 for k in range(10, 55, 5))

#: IoU .5 to .95, the range of COCO.
COCO_IOU = tuple(k / 100 for k in range(50, 100, 5))


@dataclass(frozen=True, eq=False)
class ScoredCase:
    """The instances of one case with the confidence in each.

    Args:
        overlaps: with the reference, of masks or of boxes.
        scores: (P,) float64, a higher score is a surer instance.
    """

    overlaps: Overlaps
    scores: np.ndarray


@dataclass(frozen=True, eq=False)
class PrecisionRecall:
    """A precision-recall curve; a point for each instance of the prediction, by falling score.

    Args:
        iou: the threshold of a hit.
        scores: (D,) of the instances.
        precision: (D,) share of right ones among the instances up to this.
        recall: (D,) share of the reference that they find.
        hits: (D,) int64, how many of the reference that is.
        n_ref: instances of the reference.
    """

    iou: float
    scores: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    hits: np.ndarray
    n_ref: int

    @property
    def status(self) -> Status:
        """Whether there are instances at all, on either side."""
        return status_of(len(self.scores), self.n_ref)

    @property
    def ap(self) -> float:
        """COCO's average precision: the mean over recalls 0, .01, ..., 1 of the best precision at that recall or more.

        A recall counts as reached in whole numbers; where tp / n_ref is k / 100 exactly the rounding of pycocotools
        and MONAI may miss it. No instance on either side: 1; on one side: 0.
        """
        if self.status != "ok":
            return float(self.status == "both_empty")
        best = np.append(np.maximum.accumulate(self.precision[::-1])[::-1], 0.0)
        return float(best[np.searchsorted(100 * self.hits, np.arange(101) * self.n_ref)].mean())

    @property
    def area(self) -> float:
        """The area under the steps of the curve as it is, without interpolation (scikit-learn's average precision)."""
        if self.status != "ok":
            return float(self.status == "both_empty")
        return float((np.diff(self.recall, prepend=0) * self.precision).sum())


def scored_case(overlaps: Overlaps, scores: Mapping[int, float] | np.ndarray) -> ScoredCase:
    """Join instances with their confidence.

    Args:
        overlaps: of one case.
        scores: instance number -> confidence, for every instance of the prediction and no other; or (P,) in the
            order of `overlaps.pred_ids`.

    Raises:
        ValueError: a score is missing, superfluous or not finite.
    """
    if isinstance(scores, Mapping):
        ids, given = overlaps.pred_ids.tolist(), {int(k): float(v) for k, v in scores.items()}
        lost, strange = sorted(set(ids) - set(given)), sorted(set(given) - set(ids))
        if lost or strange:
            msg = f"each instance of the prediction has one score: missing for {lost}, given for {strange} not in it"
            raise ValueError(msg)
        scores = np.array([given[i] for i in ids], np.float64)
    array = np.asarray(scores, np.float64)
    if array.shape != (overlaps.n_pred,) or not np.isfinite(array).all():
        msg = f"{overlaps.n_pred} instances have as many finite scores, got {array!r}"
        raise ValueError(msg)
    return ScoredCase(overlaps, array)


def precision_recall(cases: Sequence[ScoredCase], iou: float) -> PrecisionRecall:
    """The curve of one or many cases pooled.

    Args:
        cases: whose instances are pooled.
        iou: an instance is right when it is matched at this IoU or more.
    """
    right = []
    for case in cases:
        hit = np.zeros(case.overlaps.n_pred, bool)
        hit[match_greedy(case.overlaps, case.scores, iou).preds] = True
        right.append(hit)
    scores = np.concatenate([np.empty(0), *(case.scores for case in cases)])
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(np.concatenate([np.empty(0, bool), *right])[order], dtype=np.int64)
    n_ref = sum(case.overlaps.n_ref for case in cases)
    precision = hits / np.arange(1, len(hits) + 1)
    return PrecisionRecall(iou, scores[order], precision, hits / max(n_ref, 1), hits, n_ref)


def mean_average_precision(cases: Sequence[ScoredCase], ious: Iterable[float]) -> float:
    """Mean of `PrecisionRecall.ap` over IoU thresholds, such as `MEDICAL_IOU` or `COCO_IOU`."""
    return float(np.mean([precision_recall(cases, iou).ap for iou in ious]))
