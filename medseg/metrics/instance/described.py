"""Two instance maps of which more is known than the voxels: classes, confidence, what is only a box, what is ignored.

What counts, and which two may be a pair, is settled here once; matching, average precision and all else then read the
overlaps as they read those of plain maps.

ignore     regions of the reference that count neither for nor against: they are no instances, and a prediction more
           than half of whose voxels lie in them is left out
box_only   instances of which only the box is true: a pair with one of them is compared by the boxes
classes    a pair belongs to one class
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from medseg.metrics.contingency import contingency
from medseg.metrics.instance.average_precision import ScoredCase
from medseg.metrics.instance.overlaps import Overlaps, box_overlaps, instance_overlaps

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

#: A prediction is left out when more than this share of it lies in regions to ignore.
_IGNORED = 0.5


@dataclass(frozen=True, eq=False)
class Described:
    """A map of instances.

    Args:
        labels: (I, J, K) integers, 0 the background.
        classes: number -> class, for every instance that counts; None: all are of class 0.
        scores: number -> confidence; None: every instance has 1.
        box_only: numbers of instances drawn as boxes.
        ignore: numbers of regions that are no instances.
    """

    labels: np.ndarray
    classes: Mapping[int, int] | None = None
    scores: Mapping[int, float] | None = None
    box_only: frozenset[int] = frozenset()
    ignore: frozenset[int] = frozenset()

    def class_of(self, ids: np.ndarray) -> np.ndarray:
        """(N,) the class of each instance.

        Raises:
            ValueError: an instance without a class.
        """
        if self.classes is None:
            return np.zeros(len(ids), np.int64)
        return _looked_up(ids, self.classes, "class").astype(np.int64)

    def score_of(self, ids: np.ndarray) -> np.ndarray:
        """(N,) the confidence in each instance.

        Raises:
            ValueError: an instance without a confidence.
        """
        return np.ones(len(ids)) if self.scores is None else _looked_up(ids, self.scores, "score")


@dataclass(frozen=True, eq=False)
class Scene:
    """The instances of one case that count.

    Args:
        pred: the predicted map.
        ref: the reference.
        masks: overlaps of the instances, by masks, or by boxes where one of a pair is only a box.
        boxes: the same instances in the same order, all pairs by boxes.
        pred_classes: (P,) class of each.
        ref_classes: (R,) likewise.
        left_out: predictions that lie mostly in regions to ignore.
    """

    pred: Described
    ref: Described
    masks: Overlaps
    boxes: Overlaps
    pred_classes: np.ndarray
    ref_classes: np.ndarray
    left_out: int = 0

    def of(self, pred_classes: Collection[int], ref_classes: Collection[int]) -> tuple[ScoredCase, ScoredCase]:
        """(masks, boxes) of the instances of one structure, which may be numbered differently in the two maps."""
        preds, refs = np.isin(self.pred_classes, list(pred_classes)), np.isin(self.ref_classes, list(ref_classes))
        return self._scored(lambda overlaps: overlaps.only(preds, refs))

    def together(self, pairs: Collection[tuple[int, int]]) -> tuple[ScoredCase, ScoredCase]:
        """(masks, boxes) of the instances of all classes together; only two of one class may be a pair.

        Args:
            pairs: (class in the prediction, class in the reference) that mean the same; other classes do not count.
        """
        wanted = [list(column) for column in zip(*pairs, strict=True)] or [[], []]
        preds, refs = np.isin(self.pred_classes, wanted[0]), np.isin(self.ref_classes, wanted[1])
        allowed = set(pairs)

        def chosen(overlaps: Overlaps) -> Overlaps:
            p, r = overlaps.index.T
            classes = zip(self.pred_classes[p].tolist(), self.ref_classes[r].tolist(), strict=True)
            same = np.fromiter((pair in allowed for pair in classes), bool, len(overlaps.index))
            return overlaps.where(same).only(preds, refs)

        return self._scored(chosen)

    def _scored(self, chosen: Callable[[Overlaps], Overlaps]) -> tuple[ScoredCase, ScoredCase]:
        masks, boxes = chosen(self.masks), chosen(self.boxes)
        scores = self.pred.score_of(masks.pred_ids)
        return ScoredCase(masks, scores), ScoredCase(boxes, scores)


@dataclass(frozen=True, eq=False)
class _Side:
    """(N,) numbers, and (N, 6) boxes, of what stands in one map."""

    ids: np.ndarray
    boxes: np.ndarray = field(repr=False)

    def of(self, ids: np.ndarray) -> np.ndarray:
        return self.boxes[np.searchsorted(self.ids, ids)]


def scene(pred: Described, ref: Described, *, smallest: int = 0) -> Scene:
    """Settle which instances of two maps on one grid count, and how far they overlap.

    Args:
        pred: the predicted map.
        ref: the reference.
        smallest: instances of fewer voxels are none, in either map.

    Raises:
        ValueError: shapes differ, negative numbers, or an instance without a class.
        TypeError: a map does not hold integers.
    """
    table = contingency(pred.labels, ref.labels)
    everything = instance_overlaps(table)
    sides = [_Side(v, b.transpose(0, 2, 1).reshape(-1, 6)) for v, b in (
        (table.pred_values, table.pred_boxes), (table.ref_values, table.ref_boxes))]  # fmt: skip
    shunned = np.isin(everything.ref_ids, list(ref.ignore))
    p, r = everything.index.T
    inside = np.bincount(p, everything.shared * shunned[r], everything.n_pred)
    left_out = inside > _IGNORED * everything.pred_sizes
    real = ~np.isin(everything.pred_ids, list(pred.ignore)) & (everything.pred_sizes >= smallest)
    masks = everything.only(real & ~left_out, ~shunned & (everything.ref_sizes >= smallest))
    boxes = box_overlaps(sides[0].of(masks.pred_ids), sides[1].of(masks.ref_ids))
    boxes = replace(boxes, pred_ids=masks.pred_ids, ref_ids=masks.ref_ids)
    boxed = [np.isin(ids, list(d.box_only)) for ids, d in ((masks.pred_ids, pred), (masks.ref_ids, ref))]
    if boxed[0].any() or boxed[1].any():
        masks = _by_boxes(masks, boxes, *boxed)
    return Scene(
        pred,
        ref,
        masks,
        boxes,
        pred.class_of(masks.pred_ids),
        ref.class_of(masks.ref_ids),
        int((real & left_out).sum()),
    )


def _by_boxes(masks: Overlaps, boxes: Overlaps, preds: np.ndarray, refs: np.ndarray) -> Overlaps:
    """The overlaps of `masks`, those of pairs with a (P,) or (R,) marked instance from `boxes`."""

    def marked(overlaps: Overlaps) -> np.ndarray:
        return preds[overlaps.index[:, 0]] | refs[overlaps.index[:, 1]]

    parts = [masks.where(~marked(masks)), boxes.where(marked(boxes))]
    index, shared = (np.concatenate([getattr(part, name) for part in parts]) for name in ("index", "shared"))
    sums = np.concatenate([o.pred_sizes[o.index[:, 0]] + o.ref_sizes[o.index[:, 1]] for o in parts])
    order = np.lexsort((index[:, 1], index[:, 0]))
    return replace(masks, index=index[order], shared=shared[order], sums=sums[order])


def _looked_up(ids: np.ndarray, table: Mapping[int, float], what: str) -> np.ndarray:
    lost = [i for i in ids.tolist() if i not in table]
    if lost:
        msg = f"every instance has a {what}, got none for {', '.join(map(str, lost[:10]))}"
        raise ValueError(msg)
    return np.array([table[i] for i in ids.tolist()], np.float64)
