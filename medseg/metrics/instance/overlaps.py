"""How far every predicted instance covers every reference instance that it touches.

Only touching pairs are listed, so that hundreds of instances need no table of all pairs, and never a mask each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from medseg.metrics.structures import Status, status_of

if TYPE_CHECKING:
    from medseg.metrics.contingency import Contingency


@dataclass(frozen=True, eq=False)
class Overlaps:
    """The instances of one case and the pairs of them that touch.

    Args:
        pred_ids: (P,) int64, ascending, what the instances of the prediction are called in its map.
        ref_ids: (R,) int64, those of the reference.
        pred_sizes: (P,) voxels, or the volumes of boxes.
        ref_sizes: (R,) likewise.
        index: (N, 2) int64, the touching pairs as indices into `pred_ids` and `ref_ids`, in lexical order.
        shared: (N,) how much the two of a pair have in common, in the unit of the sizes.
        sums: (N,) the sizes of the two of a pair added up; None: those above. They differ where some pairs were
            compared by their boxes (see `medseg.metrics.instance.described`).
    """

    pred_ids: np.ndarray
    ref_ids: np.ndarray
    pred_sizes: np.ndarray
    ref_sizes: np.ndarray
    index: np.ndarray
    shared: np.ndarray
    sums: np.ndarray | None = None

    @property
    def n_pred(self) -> int:
        """Instances of the prediction."""
        return len(self.pred_ids)

    @property
    def n_ref(self) -> int:
        """Instances of the reference."""
        return len(self.ref_ids)

    @property
    def status(self) -> Status:
        """Whether there are instances at all, on either side."""
        return status_of(self.n_pred, self.n_ref)

    @cached_property
    def iou(self) -> np.ndarray:
        """(N,) intersection over union of each touching pair."""
        return self.shared / (self._both - self.shared)

    @cached_property
    def dice(self) -> np.ndarray:
        """(N,) Dice of each touching pair."""
        return 2 * self.shared / self._both

    def only(self, preds: np.ndarray, refs: np.ndarray) -> Overlaps:
        """The instances that two masks (P,) and (R,) keep, with their whole sizes."""
        pairs = preds[self.index[:, 0]] & refs[self.index[:, 1]]
        index = np.stack([(np.cumsum(kept) - 1)[i] for kept, i in zip((preds, refs), self.index[pairs].T, strict=True)])
        sizes = self.pred_sizes[preds], self.ref_sizes[refs]
        sums = None if self.sums is None else self.sums[pairs]
        return Overlaps(self.pred_ids[preds], self.ref_ids[refs], *sizes, index.T, self.shared[pairs], sums)

    def where(self, pairs: np.ndarray) -> Overlaps:
        """All instances, but only the pairs that a mask (N,) keeps, such as those of one class."""
        sums = None if self.sums is None else self.sums[pairs]
        return replace(self, index=self.index[pairs], shared=self.shared[pairs], sums=sums)

    @property
    def _both(self) -> np.ndarray:
        if self.sums is not None:
            return self.sums
        return self.pred_sizes[self.index[:, 0]] + self.ref_sizes[self.index[:, 1]]


def instance_overlaps(table: Contingency) -> Overlaps:
    """Overlaps of the instances of two integer maps; 0 is background.

    Raises:
        ValueError: a map holds negative values.
    """
    for name, values in (("pred", table.pred_values), ("ref", table.ref_values)):
        if len(values) and values[0] < 0:
            msg = f"instances are numbered from 1 and 0 is background, got {values[0]} in {name}"
            raise ValueError(msg)
    everything = Overlaps(
        table.pred_values, table.ref_values, table.pred_sizes, table.ref_sizes, table.index, table.count
    )
    return everything.only(table.pred_values > 0, table.ref_values > 0)


def box_overlaps(pred_boxes: np.ndarray, ref_boxes: np.ndarray) -> Overlaps:
    """Overlaps of boxes, numbered 1, 2, ... in their order.

    Args:
        pred_boxes: (P, 6) edges (low, low, low, high, high, high); the box of a mask is [min, max + 1).
        ref_boxes: (R, 6).

    Raises:
        ValueError: boxes of another shape, or with a low edge above its high edge.
    """
    boxes = {"pred": np.asarray(pred_boxes, np.float64), "ref": np.asarray(ref_boxes, np.float64)}
    for name, array in boxes.items():
        if array.ndim != 2 or array.shape[1] != 6 or not (array[:, :3] <= array[:, 3:]).all():
            msg = f"boxes are rows of (low, low, low, high, high, high), got {name} of shape {array.shape}: {array!r}"
            raise ValueError(msg)
    pred, ref = boxes["pred"], boxes["ref"]
    shared = np.ones((len(pred), len(ref)))
    for axis in range(3):
        low = np.maximum.outer(pred[:, axis], ref[:, axis])
        high = np.minimum.outer(pred[:, axis + 3], ref[:, axis + 3])
        shared *= np.maximum(high - low, 0)
    index = np.argwhere(shared)
    pred_ids, ref_ids = (np.arange(1, len(array) + 1) for array in (pred, ref))
    pred_sizes, ref_sizes = ((array[:, 3:] - array[:, :3]).prod(1) for array in (pred, ref))
    return Overlaps(pred_ids, ref_ids, pred_sizes, ref_sizes, index, shared[index[:, 0], index[:, 1]])
