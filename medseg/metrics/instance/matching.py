"""Which predicted instance stands for which reference instance, and what is counted from that.

How an IoU is compared with its threshold is part of a metric's definition. Panoptic quality asks for more than 0.5
(`strict=True`; Kirillov et al., CVPR 2019): only then is the matching unique, since instances of one map are
disjoint. stardist and COCO take the threshold itself as reached (`strict=False`). Two instances that do not touch
never match, whatever the threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from medseg.metrics.structures import Status, status_of

if TYPE_CHECKING:
    from medseg.metrics.instance.overlaps import Overlaps


@dataclass(frozen=True)
class MatchCounts:
    """Matched, superfluous and missed instances, of one case or (by `+`) of several pooled.

    The formulas are those of Kirillov et al. (CVPR 2019) and of stardist (Weigert et al., WACV 2020). No instance on
    either side: every score 1; none on one side, or none matched: every score 0.

    Args:
        tp: pairs matched.
        fp: instances of the prediction alone.
        fn: instances of the reference alone.
        iou_sum: sum of the IoU of the pairs.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    iou_sum: float = 0.0

    def __add__(self, other: MatchCounts) -> MatchCounts:
        return MatchCounts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.iou_sum + other.iou_sum)

    @property
    def status(self) -> Status:
        """Whether there are instances at all, on either side."""
        return status_of(self.tp + self.fp, self.tp + self.fn)

    @property
    def precision(self) -> float:
        """TP / (TP + FP)."""
        return self._share(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """TP / (TP + FN)."""
        return self._share(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """TP / (TP + FP / 2 + FN / 2), which panoptic quality calls recognition quality (RQ)."""
        return self._share(self.tp, self.tp + (self.fp + self.fn) / 2)

    @property
    def accuracy(self) -> float:
        """TP / (TP + FP + FN), the "average precision" of stardist and of the Data Science Bowl 2018."""
        return self._share(self.tp, self.tp + self.fp + self.fn)

    @property
    def sq(self) -> float:
        """Segmentation quality: mean IoU of the matched pairs (stardist's mean_matched_score)."""
        return self._share(self.iou_sum, self.tp)

    @property
    def mean_true_score(self) -> float:
        """Sum of the matched IoU over all reference instances (stardist)."""
        return self._share(self.iou_sum, self.tp + self.fn)

    @property
    def rq(self) -> float:
        """Recognition quality, the same number as `f1`."""
        return self.f1

    @property
    def pq(self) -> float:
        """Panoptic quality, SQ x RQ."""
        return self._share(self.iou_sum, self.tp + (self.fp + self.fn) / 2)

    def _share(self, part: float, whole: float) -> float:
        if self.status == "both_empty":
            return 1.0
        return part / whole if whole else 0.0


@dataclass(frozen=True, eq=False)
class Matching:
    """A one-to-one matching of one case.

    Args:
        overlaps: of which it was made.
        pairs: (M,) int64, the touching pairs that were matched, as indices into `overlaps.index`, ascending.
    """

    overlaps: Overlaps
    pairs: np.ndarray

    @property
    def preds(self) -> np.ndarray:
        """(M,) matched instances as indices into `overlaps.pred_ids`."""
        return self.overlaps.index[self.pairs, 0]

    @property
    def refs(self) -> np.ndarray:
        """(M,) those that they are matched to, as indices into `overlaps.ref_ids`."""
        return self.overlaps.index[self.pairs, 1]

    @property
    def counts(self) -> MatchCounts:
        """TP, FP, FN and the sum of the IoU."""
        o, tp = self.overlaps, len(self.pairs)
        return MatchCounts(tp, o.n_pred - tp, o.n_ref - tp, float(o.iou[self.pairs].sum()))


def match_optimal(overlaps: Overlaps, iou: float, *, strict: bool) -> Matching:
    """The most pairs of sufficient IoU, and of all such matchings the one of greatest total IoU (Kuhn, 1955).

    Args:
        overlaps: of one case.
        iou: threshold in [0, 1].
        strict: whether a pair needs more than `iou` (panoptic quality) or at least `iou` (stardist, COCO).
    """
    pairs = _reaching(overlaps, iou, strict=strict)
    pred, ref = overlaps.index[pairs].T
    lone = (np.bincount(pred, minlength=1)[pred] == 1) & (np.bincount(ref, minlength=1)[ref] == 1)
    found = [pairs[lone]]
    if not lone.all():
        found += [_assign(overlaps, rest) for rest in _components(overlaps, pairs[~lone])]
    return Matching(overlaps, np.sort(np.concatenate(found)))


def match_greedy(overlaps: Overlaps, scores: np.ndarray, iou: float) -> Matching:
    """COCO's matching: instances in order of falling score each take the free reference of greatest IoU.

    Args:
        overlaps: of one case.
        scores: (P,) confidence of each instance; of equal ones the first comes first.
        iou: threshold; it counts as reached (>=). Of references of equal IoU the last one is taken, as in pycocotools.
    """
    pairs = _reaching(overlaps, iou, strict=False)
    rank = np.empty(overlaps.n_pred, np.int64)
    rank[np.argsort(-scores, kind="stable")] = np.arange(overlaps.n_pred)
    pred, ref = overlaps.index[pairs].T
    order = np.lexsort((-ref, -overlaps.iou[pairs], rank[pred]))
    busy_pred, busy_ref, found = set(), set(), []
    for pair, p, r in zip(pairs[order].tolist(), pred[order].tolist(), ref[order].tolist(), strict=True):
        if p not in busy_pred and r not in busy_ref:
            busy_pred.add(p)
            busy_ref.add(r)
            found.append(pair)
    return Matching(overlaps, np.sort(np.array(found, np.int64)))


def _reaching(overlaps: Overlaps, iou: float, *, strict: bool) -> np.ndarray:
    if not 0 <= iou <= 1:
        msg = f"an IoU threshold lies in [0, 1], got {iou}"
        raise ValueError(msg)
    return np.flatnonzero(overlaps.iou > iou if strict else overlaps.iou >= iou)


def _components(overlaps: Overlaps, pairs: np.ndarray) -> list[np.ndarray]:
    """The pairs in groups that have no instance in common."""
    pred, ref = overlaps.index[pairs].T
    nodes = overlaps.n_pred + overlaps.n_ref
    graph = coo_array((np.ones(len(pairs), np.int8), (pred, overlaps.n_pred + ref)), (nodes, nodes))
    group = connected_components(graph, directed=False)[1][pred]
    order = np.argsort(group, kind="stable")
    return np.split(pairs[order], np.flatnonzero(np.diff(group[order])) + 1)


def _assign(overlaps: Overlaps, pairs: np.ndarray) -> np.ndarray:
    """The best matching within one group of pairs."""
    (preds, row), (refs, column) = (np.unique(side, return_inverse=True) for side in overlaps.index[pairs].T)
    gain, pair = np.zeros((len(preds), len(refs))), np.full((len(preds), len(refs)), -1)
    gain[row, column] = 1 + overlaps.iou[pairs] / (2 * min(gain.shape))  # one more pair outweighs every IoU
    pair[row, column] = pairs
    chosen = pair[linear_sum_assignment(gain, maximize=True)]
    return chosen[chosen >= 0]
