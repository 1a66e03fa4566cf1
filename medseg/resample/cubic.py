"""The interpolating cubic B-spline, with the image mirrored about its outermost voxel centres.

A cubic spline through the voxels is a sum of B-splines whose coefficients come from two short recursions along
each axis (Unser, Aldroubi, Eden, IEEE TSP 41, 1993); a sample is then a weighted sum of four coefficients an
axis. It equals scipy's `order=3, mode="mirror"`. Lines are taken 32 at a time, so that the recursions, serial
along a line, run as vector instructions across lines.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from medseg.jit import in_slabs, kernel
from medseg.resample.mapping import Aligned, target_to_source

if TYPE_CHECKING:
    from medseg.geometry import Grid

_POLE = np.sqrt(3.0) - 2.0
_LINES = 32


def cubic_aligned(view: Aligned, out: np.ndarray, threads: int | None) -> None:
    """Sample along one axis after the other, the one that shrinks most first; whole axes are only picked."""
    array = view.array[tuple(a.picked if a.whole else slice(None) for a in view.axes)]
    ratio = [len(axis.x) / n for axis, n in zip(view.axes, view.array.shape, strict=True)]
    for axis in sorted((a for a in range(3) if not view.axes[a].whole), key=ratio.__getitem__):
        array = along(array, axis, view.axes[axis].x, threads)
    view.inside(out)[...] = array


def cubic_oblique(array: np.ndarray, source: Grid, target: Grid, fill: float, threads: int | None) -> np.ndarray:
    """Coefficients along all three axes, then 64 of them for each target voxel."""
    for axis in range(3):
        array = along(array, axis, None, threads)
    mapping = target_to_source(source, target)
    out = np.empty(target.shape, np.float32)
    coefficients = np.ascontiguousarray(array)
    in_slabs(lambda a, b: _cubic_voxels(coefficients, out, mapping, np.float32(fill), a, b), len(out), threads)
    return out


def taps(x: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(m, 4) coefficient indices (mirrored into [0, n)) and (m, 4) float32 weights at source indices x."""
    lo = np.floor(x)
    w = x - lo
    index = np.abs(lo[:, None].astype(np.int64) + np.arange(-1, 3))
    index = np.where(index > n - 1, np.abs(2 * (n - 1) - index), index) if n > 1 else np.zeros_like(index)
    weight = np.stack([(1 - w) ** 3, 3 * w**3 - 6 * w**2 + 4, 3 * (1 - w) ** 3 - 6 * (1 - w) ** 2 + 4, w**3], 1) / 6
    return index, weight.astype(np.float32)


def along(array: np.ndarray, axis: int, x: np.ndarray | None, threads: int | None) -> np.ndarray:
    """Spline samples at x along one axis of a C-contiguous array, or the coefficients where x is None."""
    shape = list(array.shape)
    outer, n, inner = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    index, weight = (np.arange(n)[:, None], np.ones((n, 1), np.float32)) if x is None else taps(x, n)
    shape[axis] = len(index)
    out = np.empty(shape, np.float32)
    lines, sampled = np.ascontiguousarray(array).reshape(outer, n, inner), out.reshape(outer, len(index), inner)
    if inner == 1:  # the fastest axis: the neighbouring lines are those of the other axes
        lines, sampled = lines.transpose(2, 1, 0), sampled.transpose(2, 1, 0)
    blocks = lines.shape[0] * -(-lines.shape[2] // _LINES)
    in_slabs(lambda a, b: _spline_lines(lines, sampled, index, weight, a, b), blocks, threads)
    return out


@kernel
def _spline_lines(src, out, index, weight, begin, end):
    n, inner = src.shape[1], src.shape[2]
    blocks = -(-inner // _LINES)
    c = np.zeros((n, _LINES), np.float32)
    acc = np.empty(_LINES, np.float32)
    for block in range(begin, end):
        first = block % blocks * _LINES
        count = min(_LINES, inner - first)
        here, there = src[block // blocks], out[block // blocks]
        for k in range(n):
            for line in range(count):
                c[k, line] = here[k, first + line]
        if n > 1:
            _coefficients(c, n, np.float32(_POLE))
        for t in range(len(index)):
            acc[:] = 0
            for tap in range(index.shape[1]):
                w, coefficients = weight[t, tap], c[index[t, tap]]
                for line in range(_LINES):
                    acc[line] += w * coefficients[line]
            for line in range(count):
                there[t, first + line] = acc[line]


@kernel
def _coefficients(c, n, z):
    """Samples (n, lines) -> spline coefficients, in place."""
    start = np.zeros(_LINES, np.float32)
    period = 2 * n - 2
    for k in range(min(period, 24)):  # the mirrored samples before the first one; 0.268^24 is 2e-14
        mirrored = k if k < n else period - k
        for line in range(_LINES):
            start[line] += z**k * c[mirrored, line]
    gain = np.float32(1) / (np.float32(1) - z**period) if period < 24 else np.float32(1)
    for line in range(_LINES):
        c[0, line] = start[line] * gain
    for k in range(1, n):
        for line in range(_LINES):
            c[k, line] += z * c[k - 1, line]
    for line in range(_LINES):
        c[n - 1, line] = z / (z * z - np.float32(1)) * (c[n - 1, line] + z * c[n - 2, line])
    for k in range(n - 2, -1, -1):
        for line in range(_LINES):
            c[k, line] = z * (c[k + 1, line] - c[k, line])
    for k in range(n):
        for line in range(_LINES):
            c[k, line] *= np.float32(6)


@kernel
def _spot(x, n, index, weight):
    """Fill the four taps at source index x; False outside."""
    if not (-0.500001 <= x <= n - 0.499999):
        return False
    x = min(max(x, 0.0), n - 1.0)
    lo = int(x)
    w = x - lo
    for t in range(4):
        k = abs(lo - 1 + t)
        index[t] = 0 if n == 1 else (abs(2 * (n - 1) - k) if k > n - 1 else k)
    weight[0], weight[3] = (1 - w) ** 3 / 6, w**3 / 6
    weight[1] = (3 * w**3 - 6 * w**2 + 4) / 6
    weight[2] = 1 - weight[0] - weight[1] - weight[3]
    return True


@kernel
def _cubic_voxels(src, out, m, fill, begin, end):
    i, j, k = np.empty(4, np.int64), np.empty(4, np.int64), np.empty(4, np.int64)
    u, v, w = np.empty(4), np.empty(4), np.empty(4)
    for a in range(begin, end):
        for b in range(out.shape[1]):
            for c in range(out.shape[2]):
                inside = _spot(m[0, 0] * a + m[0, 1] * b + m[0, 2] * c + m[0, 3], src.shape[0], i, u)
                inside &= _spot(m[1, 0] * a + m[1, 1] * b + m[1, 2] * c + m[1, 3], src.shape[1], j, v)
                inside &= _spot(m[2, 0] * a + m[2, 1] * b + m[2, 2] * c + m[2, 3], src.shape[2], k, w)
                if not inside:
                    out[a, b, c] = fill
                    continue
                total = 0.0
                for p in range(4):
                    for q in range(4):
                        along = 0.0
                        for r in range(4):
                            along += w[r] * src[i[p], j[q], k[r]]
                        total += u[p] * v[q] * along
                out[a, b, c] = total
