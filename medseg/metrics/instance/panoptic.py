"""Panoptic quality of several classes, things and stuff (Kirillov et al., Panoptic Segmentation, CVPR 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.metrics.instance.matching import MatchCounts, match_optimal
from medseg.metrics.instance.overlaps import Overlaps

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from medseg.metrics.contingency import Contingency

#: A segment matches when its IoU is greater than this; the matching is then unique.
IOU = 0.5


@dataclass(frozen=True)
class PanopticQuality:
    """Counts of every class that occurs, of one case or (by `+`) of several pooled, as the paper pools them.

    The overall PQ, SQ and RQ are means over the classes that occur; where none does they are 1 (nothing was there to
    find and nothing was found).

    Args:
        classes: class -> counts.
        stuff: the classes whose segments are one segment a case.
    """

    classes: Mapping[int, MatchCounts]
    stuff: frozenset[int] = frozenset()

    def __add__(self, other: PanopticQuality) -> PanopticQuality:
        if self.stuff != other.stuff:
            msg = f"cases are pooled that agree on what is stuff, got {set(self.stuff)} and {set(other.stuff)}"
            raise ValueError(msg)
        both = sorted({*self.classes, *other.classes})
        none = MatchCounts()
        return PanopticQuality({c: self.classes.get(c, none) + other.classes.get(c, none) for c in both}, self.stuff)

    @property
    def pq(self) -> float:
        """Mean panoptic quality."""
        return self._mean([counts.pq for counts in self.classes.values()])

    @property
    def sq(self) -> float:
        """Mean segmentation quality."""
        return self._mean([counts.sq for counts in self.classes.values()])

    @property
    def rq(self) -> float:
        """Mean recognition quality."""
        return self._mean([counts.rq for counts in self.classes.values()])

    @property
    def pq_things(self) -> float | None:
        """Mean panoptic quality of the classes whose instances are told apart; None where there is none."""
        values = [counts.pq for c, counts in self.classes.items() if c not in self.stuff]
        return self._mean(values) if values else None

    @property
    def pq_stuff(self) -> float | None:
        """Mean panoptic quality of the others; None where there is none."""
        values = [counts.pq for c, counts in self.classes.items() if c in self.stuff]
        return self._mean(values) if values else None

    @staticmethod
    def _mean(values: list[float]) -> float:
        return float(np.mean(values)) if values else 1.0


def panoptic_quality(
    table: Contingency,
    *,
    pred_classes: Mapping[int, int],
    ref_classes: Mapping[int, int],
    stuff: Collection[int] = (),
) -> PanopticQuality:
    """Panoptic quality of two maps of segments; 0 belongs to no segment.

    A predicted segment can only match one of its own class, whose IoU is counted over all its voxels.

    Args:
        table: of the two maps of segment numbers.
        pred_classes: segment number -> class, for every number in the prediction.
        ref_classes: likewise for the reference.
        stuff: classes whose segments are joined into one before anything is compared.

    Raises:
        ValueError: a segment without a class.
    """
    pred_of, pred_class, pred_ids = _segments(table.pred_values, pred_classes, stuff, "pred")
    ref_of, ref_class, ref_ids = _segments(table.ref_values, ref_classes, stuff, "ref")
    pairs = np.stack([pred_of[table.index[:, 0]], ref_of[table.index[:, 1]]], 1)
    index, where = np.unique(pairs, axis=0, return_inverse=True)
    shared, pred_sizes, ref_sizes = (
        np.bincount(group, count, n).astype(np.int64)
        for group, count, n in (
            (where.reshape(-1), table.count, len(index)),
            (pred_of, table.pred_sizes, len(pred_ids)),
            (ref_of, table.ref_sizes, len(ref_ids)),
        )
    )
    segments = Overlaps(pred_ids, ref_ids, pred_sizes, ref_sizes, index, shared)
    classes = {}
    for c in np.union1d(pred_class[pred_ids != 0], ref_class[ref_ids != 0]).tolist():
        own = segments.only((pred_class == c) & (pred_ids != 0), (ref_class == c) & (ref_ids != 0))
        classes[c] = match_optimal(own, IOU, strict=True).counts
    return PanopticQuality(classes, frozenset(stuff))


def _segments(
    values: np.ndarray, classes: Mapping[int, int], stuff: Collection[int], name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(V,) the segment of each value; (S,) the class of each segment; (S,) the least value in it, 0 for background."""
    known = {0: 0, **classes}
    lost = [v for v in values.tolist() if v not in known]
    if lost:
        msg = f"every segment has a class, got none for {', '.join(map(str, lost))} of {name}"
        raise ValueError(msg)
    of = np.array([known[v] for v in values.tolist()], np.int64)
    first = {c: values[(of == c) & (values != 0)].min(initial=np.iinfo(np.int64).max) for c in stuff}
    ids = np.array([first.get(c, v) if v else 0 for v, c in zip(values.tolist(), of.tolist(), strict=True)], np.int64)
    found, where = np.unique(ids, return_inverse=True)
    return where, np.array([known[v] for v in found.tolist()], np.int64), found
