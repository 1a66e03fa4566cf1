"""Label maps: each target voxel takes the label with the greatest trilinear weight among its eight corners.

That is one-hot encoding, linear interpolation of every label's channel and argmax, in one pass without the
channels. Equal weights (within 1e-6) go to the lowest value, so background wins and the outcome does not depend
on the direction of the axes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.jit import in_slabs, kernel
from medseg.resample.image import corner
from medseg.resample.mapping import align, match_axes, target_to_source, with_kernel

if TYPE_CHECKING:
    from medseg.geometry import Grid


def resample_labels(array: np.ndarray, source: Grid, target: Grid, *, threads: int | None = None) -> np.ndarray:
    """Put a label map onto another grid.

    Where the target lies on the source's own lattice (permuted, flipped, cropped, padded) voxels are copied.

    Args:
        array: (I, J, K) of any integer dtype or bool, C or Fortran order; values are kept exactly.
        source: where the array lies.
        target: where the result shall lie.
        threads: at most this many; None: every processor this process may use.

    Returns:
        (I', J', K') of the same dtype, 0 outside the source, in the memory order of `array`.

    Raises:
        ValueError: the array does not have the shape of its grid.
        TypeError: the array does not hold integers.
    """
    if array.dtype.kind not in "iub":
        msg = f"labels are integers, got {array.dtype}"
        raise TypeError(msg)
    if array.shape != source.shape:
        msg = f"the array has shape {array.shape}, its grid {source.shape}"
        raise ValueError(msg)
    dtype, array = array.dtype, with_kernel(array, (np.uint8, np.int16, np.int32, np.int64))
    axis = match_axes(source, target)
    if axis is None:
        out = np.zeros(target.shape, array.dtype)
        src, mapping = np.ascontiguousarray(array), target_to_source(source, target)
        in_slabs(lambda a, b: _vote_voxels(src, out, mapping, a, b), target.shape[0], threads)
        return out.astype(dtype, copy=False)
    view = align(array, source, target, axis)
    out = view.output(target.shape, array.dtype, 0)
    if all(a.whole for a in view.axes):
        view.inside(out)[...] = view.array[tuple(a.picked for a in view.axes)]
    elif view.inside(out).size:
        tables = [table for axis in view.axes for table in (axis.lower, axis.weight)]
        start = tuple(axis.start for axis in view.axes)
        in_slabs(lambda a, b: _vote_rows(view.array, out, start, *tables, a, b), len(view.axes[0].x), threads)
    return view.restore(out).astype(dtype, copy=False)


@kernel
def _vote(labels, weights, u, v, w):
    """The label of greatest summed weight; corner 4a + 2b + c weighs (u or 1-u) (v or 1-v) (w or 1-w)."""
    for n in range(8):
        weights[n] = (u if n & 4 else 1 - u) * (v if n & 2 else 1 - v) * (w if n & 1 else 1 - w)
    most = 0.0
    for n in range(8):
        total = 0.0
        for m in range(8):
            if labels[m] == labels[n]:
                total += weights[m]
        weights[8 + n] = total
        most = max(most, total)
    best, found = labels[0], False
    for n in range(8):
        if weights[8 + n] >= most - 1e-6 and (not found or labels[n] < best):
            best, found = labels[n], True
    return best


@kernel
def _vote_rows(src, out, start, lo0, w0, lo1, w1, lo2, w2, begin, end):
    """Most voxels lie inside one structure: find out for whole rows where the eight corners agree."""
    one, first = np.uint32(1), lo2.min()
    stop = min(np.intp(lo2.max()) + 2, src.shape[2])
    n = stop - np.intp(first)  # loops from 0 run as vector instructions: numba then knows that no index is negative
    same = np.empty(n, np.bool_)
    labels, weights = np.empty(8, src.dtype), np.empty(16, np.float64)
    for a in range(begin, end):
        i, u = lo0[a], np.float64(w0[a])
        i2 = i + 1 if u > 0 else i
        for b in range(len(lo1)):
            j, v = lo1[b], np.float64(w1[b])
            j2 = j + 1 if v > 0 else j
            r00, r01 = src[i, j][first:stop], src[i, j2][first:stop]
            r10, r11 = src[i2, j][first:stop], src[i2, j2][first:stop]
            for k in range(n):
                same[k] = (r00[k] == r01[k]) & (r00[k] == r10[k]) & (r00[k] == r11[k])
            line = out[start[0] + a, start[1] + b]
            for c in range(len(lo2)):
                k = lo2[c] - first
                k2 = k + one if w2[c] > 0 else k
                if same[k] and same[k2] and r00[k] == r00[k2]:
                    line[start[2] + c] = r00[k]
                    continue
                labels[0], labels[1], labels[2], labels[3] = r00[k], r00[k2], r01[k], r01[k2]
                labels[4], labels[5], labels[6], labels[7] = r10[k], r10[k2], r11[k], r11[k2]
                line[start[2] + c] = _vote(labels, weights, u, v, np.float64(w2[c]))


@kernel
def _vote_voxels(src, out, m, begin, end):
    n0, n1, n2 = src.shape
    labels, weights = np.empty(8, src.dtype), np.empty(16, np.float64)
    for a in range(begin, end):
        for b in range(out.shape[1]):
            for c in range(out.shape[2]):
                i, i2, u = corner(m[0, 0] * a + m[0, 1] * b + m[0, 2] * c + m[0, 3], n0)
                j, j2, v = corner(m[1, 0] * a + m[1, 1] * b + m[1, 2] * c + m[1, 3], n1)
                k, k2, w = corner(m[2, 0] * a + m[2, 1] * b + m[2, 2] * c + m[2, 3], n2)
                if i < 0 or j < 0 or k < 0:
                    continue
                labels[0], labels[1], labels[2], labels[3] = src[i, j, k], src[i, j, k2], src[i, j2, k], src[i, j2, k2]
                labels[4], labels[5] = src[i2, j, k], src[i2, j, k2]
                labels[6], labels[7] = src[i2, j2, k], src[i2, j2, k2]
                out[a, b, c] = _vote(labels, weights, u, v, w)
