"""One pass over two label maps: which values meet where, how often, and the box of each value.

Everything that counts voxels (overlap, confusion, instance matching) is read out of this table, and surfaces are
measured inside its boxes; neither looks at the whole volume again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from medseg.jit import kernel
from medseg.metrics.runs import checked, flat_words, in_one_order, run_end

#: Tables of at most so many cells are counted as they are; values further apart are numbered anew first.
_CELLS = 1 << 22


@dataclass(frozen=True, eq=False)
class Contingency:
    """Voxel counts of two label maps on one grid.

    Args:
        pred_values: (P,) int64, the values in the prediction, ascending (0 too where it occurs).
        ref_values: (R,) int64, those in the reference.
        index: (N, 2) the pairs that occur, as indices into `pred_values` and `ref_values`, in lexical order.
        count: (N,) int64, how many voxels each pair has.
        pred_boxes: (P, 3, 2) int64, first and last-plus-one index of each value along each array axis.
        ref_boxes: (R, 3, 2) of the reference's values.
    """

    pred_values: np.ndarray
    ref_values: np.ndarray
    index: np.ndarray
    count: np.ndarray
    pred_boxes: np.ndarray
    ref_boxes: np.ndarray

    @cached_property
    def dense(self) -> np.ndarray:
        """(P, R) int64 voxel counts."""
        table = np.zeros((len(self.pred_values), len(self.ref_values)), np.int64)
        table[self.index[:, 0], self.index[:, 1]] = self.count
        return table

    @cached_property
    def pred_sizes(self) -> np.ndarray:
        """(P,) int64 voxels of each value of the prediction."""
        return np.bincount(self.index[:, 0], self.count, len(self.pred_values)).astype(np.int64)

    @cached_property
    def ref_sizes(self) -> np.ndarray:
        """(R,) int64 voxels of each value of the reference."""
        return np.bincount(self.index[:, 1], self.count, len(self.ref_values)).astype(np.int64)


def contingency(pred: np.ndarray, ref: np.ndarray) -> Contingency:
    """Count how two label maps meet.

    Args:
        pred: (I, J, K) of any integer dtype or bool, C or Fortran order.
        ref: the same shape; the dtype may differ.

    Raises:
        ValueError: the shapes differ.
        TypeError: one of them does not hold integers.
    """
    checked(pred, ref)
    if not pred.size:
        none, boxes = np.empty(0, np.int64), np.empty((0, 3, 2), np.int64)
        return Contingency(none, none, np.empty((0, 2), np.int64), none, boxes, boxes)
    pred, ref, turned = in_one_order(pred, ref)
    p_values, r_values = _span(pred), _span(ref)
    p_low, r_low = p_values[0], r_values[0]
    if (p_values.stop - p_low) * (r_values.stop - r_low) > _CELLS:  # a range may be longer than `len` can say
        (pred, p_values), (ref, r_values) = _compact(pred), _compact(ref)
        p_low = r_low = 0
    p_boxes, r_boxes = _no_boxes(len(p_values)), _no_boxes(len(r_values))
    if len(p_values) * len(r_values) > _CELLS:
        index, count = _sort(pred, ref, p_boxes, r_boxes)
    else:
        table = np.zeros((len(p_values), len(r_values)), np.int64)
        _tally(pred, ref, p_low, r_low, table, p_boxes, r_boxes)
        index = np.argwhere(table)
        count = table[index[:, 0], index[:, 1]]
    p_there, r_there = np.unique(index[:, 0]), np.unique(index[:, 1])
    p_boxes, r_boxes = p_boxes[p_there], r_boxes[r_there]
    index = np.stack([np.searchsorted(p_there, index[:, 0]), np.searchsorted(r_there, index[:, 1])], 1)
    if turned:
        p_boxes, r_boxes = p_boxes[:, ::-1], r_boxes[:, ::-1]
    return Contingency(
        np.asarray(p_values)[p_there].astype(np.int64),
        np.asarray(r_values)[r_there].astype(np.int64),
        index,
        count,
        p_boxes,
        r_boxes,
    )


def _span(array: np.ndarray) -> range:
    """All values between the array's smallest and largest; of one byte simply all."""
    if array.itemsize == 1:
        low, high = (-128, 127) if array.dtype == np.int8 else (0, 255)
    else:
        low, high = int(array.min()), int(array.max())
    if high > np.iinfo(np.int64).max:
        msg = f"a label of {high} is more than 64-bit integers hold"
        raise ValueError(msg)
    return range(low, high + 1)


def _compact(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers 0, 1, ... instead of values far apart, and the values they stand for."""
    found, inverse = np.unique(array, return_inverse=True)
    return inverse.reshape(array.shape).astype(np.int32), found.astype(np.int64)


def _no_boxes(n: int) -> np.ndarray:
    """(n, 3, 2) boxes that any voxel makes larger."""
    boxes = np.empty((n, 3, 2), np.int64)
    boxes[..., 0], boxes[..., 1] = np.iinfo(np.int64).max, 0
    return boxes


def _tally(
    pred: np.ndarray,
    ref: np.ndarray,
    pred_low: int,
    ref_low: int,
    table: np.ndarray,
    pred_boxes: np.ndarray,
    ref_boxes: np.ndarray,
) -> None:
    """Count into `table[pred - pred_low, ref - ref_low]` and widen the boxes."""
    shape, (pred, pred_words), (ref, ref_words) = pred.shape, flat_words(pred), flat_words(ref)
    # As unsigned integers that wrap around, value - low is right for signed values too.
    lows = (np.uint64(low & (1 << 64) - 1) for low in (pred_low, ref_low))
    _count(pred, pred_words, ref, ref_words, *lows, shape[1], shape[2], table, pred_boxes, ref_boxes)


@kernel
def _count(pred, pred_words, ref, ref_words, pred_low, ref_low, width, length, table, pred_boxes, ref_boxes):
    """Stretches of one pair of values are counted at once, wherever rows end."""
    pred_mask = np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - 8 * pred.itemsize)
    ref_mask = np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - 8 * ref.itemsize)
    k = p_end = r_end = 0
    a = b = np.uint64(0)
    while k < len(pred):
        if k == p_end:
            p_end, a = run_end(pred, pred_words, k, len(pred)), (np.uint64(pred[k]) - pred_low) & pred_mask
        if k == r_end:
            r_end, b = run_end(ref, ref_words, k, len(ref)), (np.uint64(ref[k]) - ref_low) & ref_mask
        stop = min(p_end, r_end)
        table[a, b] += stop - k
        first, last = k // length, (stop - 1) // length
        _enclose(pred_boxes[a], k, stop, first, last, width, length)
        _enclose(ref_boxes[b], k, stop, first, last, width, length)
        k = stop


@kernel
def _enclose(box, k, stop, first, last, width, length):
    """Widen by voxels k to stop of the flat array, rows first to last: past the end of a row it is full from 0 on."""
    _widen(box[0], first // width, last // width + 1)
    if first // width == last // width:
        _widen(box[1], first % width, last % width + 1)
    else:
        _widen(box[1], 0, width)
    if first == last:
        _widen(box[2], k - first * length, stop - first * length)
    else:
        _widen(box[2], 0, length)


@kernel
def _widen(side, low, high):
    side[0], side[1] = min(side[0], low), max(side[1], high)


def _sort(
    pred: np.ndarray, ref: np.ndarray, pred_boxes: np.ndarray, ref_boxes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`index` and `count` of numbers where a table of all pairs would be too large; fills the boxes."""
    n_pred, n_ref = len(pred_boxes), len(ref_boxes)
    keys, count = np.unique(pred.astype(np.int64) * n_ref + ref, return_counts=True)
    blank = np.zeros(pred.shape, np.uint8)
    _tally(pred, blank, 0, 0, np.zeros((n_pred, 1), np.int64), pred_boxes, _no_boxes(1))
    _tally(blank, ref, 0, 0, np.zeros((1, n_ref), np.int64), _no_boxes(1), ref_boxes)
    return np.stack(np.divmod(keys, n_ref), 1), count.astype(np.int64)
