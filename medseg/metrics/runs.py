"""Run lengths of a label map: the one pass over a volume that all its structures share.

A run is a stretch of one value along the axis that lies in one piece in memory. Neighbours of one value are compared
eight bytes at a time, so that background costs little more than reading it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from medseg.jit import kernel
from medseg.metrics.bits import lowest

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True, eq=False)
class Runs:
    """The runs of a label map, those of one value behind each other.

    Args:
        values: (V,) ascending, the values that occur.
        bounds: (V + 1,) where the runs of each value begin and end in the arrays below.
        row: (N,) i * J + j, int64.
        start: (N,) first k, int32.
        stop: (N,) last k plus one, int32.
        width: J.
    """

    values: np.ndarray
    bounds: np.ndarray
    row: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    width: int

    @cached_property
    def _place(self) -> dict[int, int]:
        return {int(value): n for n, value in enumerate(self.values)}

    def of(self, values: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(row, start, stop) of all runs of these values together."""
        found = [self._place[v] for v in dict.fromkeys(values) if v in self._place]
        pieces = [slice(self.bounds[n], self.bounds[n + 1]) for n in found]
        if len(pieces) == 1:
            return self.row[pieces[0]], self.start[pieces[0]], self.stop[pieces[0]]
        row, start, stop = (
            np.concatenate([array[:0], *(array[piece] for piece in pieces)])
            for array in (self.row, self.start, self.stop)
        )
        return row, start, stop


def runs(array: np.ndarray, *, zero: bool = False) -> Runs:
    """The runs of every value but 0; of 0 too if `zero`.

    Args:
        array: (I, J, K) integers or bool, C order.
        zero: whether 0 is a structure like any other.
    """
    flat, words = flat_words(array)
    found, row, start, stop = _runs(flat, words, max(1, array.shape[2]), zero)
    found = found.view(bool_as_bytes(array.dtype))
    order = np.argsort(found, kind="stable")
    ordered = found[order]
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(ordered) else order
    bounds = np.append(first, len(ordered))
    return Runs(ordered[first].astype(np.int64), bounds, row[order], start[order], stop[order], array.shape[1])


def checked(pred: np.ndarray, ref: np.ndarray) -> None:
    """Refuse what are not two label maps on one grid.

    Raises:
        ValueError: the shapes differ, or are not 3D.
        TypeError: one of them does not hold integers.
    """
    if pred.shape != ref.shape or pred.ndim != 3:
        msg = f"two label maps of one shape (I, J, K) are compared, got pred {pred.shape} and ref {ref.shape}"
        raise ValueError(msg)
    for name, array in (("pred", pred), ("ref", ref)):
        if array.dtype.kind not in "iub":
            msg = f"labels are integers, got {name} of type {array.dtype}"
            raise TypeError(msg)


def in_one_order(pred: np.ndarray, ref: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """Both in C order, and whether their axes were reversed to get there: NIfTI's arrays lie in Fortran order.

    At most one of them is copied, if one lies in either order.
    """
    c_order, f_order = ([array.flags[flag] for array in (pred, ref)] for flag in ("C_CONTIGUOUS", "F_CONTIGUOUS"))
    turned = not c_order[0] and (f_order[0] or (f_order[1] and not c_order[1]))
    if turned:
        pred, ref = pred.T, ref.T
    return np.ascontiguousarray(pred), np.ascontiguousarray(ref), turned


def bool_as_bytes(dtype: np.dtype) -> np.dtype:
    """The integer type in native byte order that holds the same values."""
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")


def flat_words(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A C-ordered label map as one line of unsigned integers, and the same memory as 8-byte words (the rest left off).

    Kernels see four types instead of nine: signs come back with `.view`.
    """
    flat = array.reshape(-1)
    flat = flat.astype(bool_as_bytes(flat.dtype), copy=False) if flat.dtype.kind != "b" else flat.view(np.uint8)
    if flat.ctypes.data % 8 or not flat.flags.c_contiguous:  # every second voxel of another array, say
        flat = flat.copy()
    flat = flat.view(f"u{flat.itemsize}")
    per = 8 // flat.itemsize
    return flat, flat[: len(flat) // per * per].view(np.uint64)


@kernel
def run_end(flat, words, k, end):
    """Where the run that begins at `k` ends, at most `end`: the first byte that differs, low bytes first in memory."""
    value, bits = flat[k], 8 * flat.itemsize
    per, w = 64 // bits, k // (64 // bits)
    if w < len(words):
        same = np.uint64(value) * (_ALL // (_ALL >> np.uint64(64 - bits)))
        differ = (words[w] ^ same) >> np.uint64(bits * (k % per))
        if differ:
            return min(end, k + lowest(differ) // bits)
        w, last = w + 1, end // per
        while w + 4 <= last:
            if (words[w] ^ same) | (words[w + 1] ^ same) | (words[w + 2] ^ same) | (words[w + 3] ^ same):
                break
            w += 4
        while w < last and words[w] == same:
            w += 1
        k = w * per
        if w < len(words):
            return min(end, k + lowest(words[w] ^ same) // bits)
    while k < end and flat[k] == value:
        k += 1
    return min(k, end)


@kernel
def _runs(flat, words, length, zero):
    found = np.empty(1024, flat.dtype)
    row, start, stop = np.empty(1024, np.int64), np.empty(1024, np.int32), np.empty(1024, np.int32)
    n, k = 0, 0
    while k < len(flat):
        if flat[k] == 0 and not zero:
            k = run_end(flat, words, k, len(flat))
            continue
        r = k // length
        end = run_end(flat, words, k, (r + 1) * length)
        if n == len(found):
            found, row, start, stop = _twice(found), _twice(row), _twice(start), _twice(stop)
        found[n], row[n], start[n], stop[n] = flat[k], r, k - r * length, end - r * length
        n, k = n + 1, end
    return found[:n].copy(), row[:n].copy(), start[:n].copy(), stop[:n].copy()


@kernel
def _twice(array):
    longer = np.empty(2 * len(array), array.dtype)
    longer[: len(array)] = array
    return longer
