"""Erosion and dilation of the soft skeleton on a CPU: one pass over memory each way.

Erosion looks at seven voxels and keeps which was smallest, one byte a voxel. Dilation takes the largest of three along
D, H and W in turn, plane by plane in the cache, and keeps the three choices in one byte. The gradient is gathered: a
voxel asks the neighbours whether they chose it, so threads write their own planes only and the result does not depend
on their number. Of equals the voxel itself is chosen, then the first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.jit import in_slabs, kernel

if TYPE_CHECKING:
    from collections.abc import Callable

# Choices of an erosion: the voxel itself, or its neighbour below or above along D, H, W.
_SELF, _D0, _D1, _H0, _H1, _W0, _W1 = range(7)
_NOBODY = 255


def erode(x: np.ndarray, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """The smallest of each voxel and its neighbours across faces, and which it was.

    Args:
        x: (N, D, H, W) contiguous float32 or float64.
        threads: at most this many.

    Returns:
        (N, D, H, W) values, and choices uint8 for `erode_back`.
    """
    return _forward(_erode, x, threads)


def erode_back(grad: np.ndarray, chosen: np.ndarray, threads: int) -> np.ndarray:
    """The gradient of `erode`'s input, from that of its output (N, D, H, W)."""
    out = np.empty_like(grad)
    in_slabs(lambda a, b: _erode_back(grad, chosen, out, a, b), _planes(grad), threads)
    return out


def dilate(x: np.ndarray, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest of each voxel's 3 x 3 x 3 block, and which it was; as `erode`."""
    return _forward(_dilate, x, threads)


def dilate_back(grad: np.ndarray, chosen: np.ndarray, threads: int) -> np.ndarray:
    """The gradient of `dilate`'s input, from that of its output (N, D, H, W)."""
    before, out = np.empty_like(grad), np.empty_like(grad)
    in_slabs(lambda a, b: _dilate_back_in_plane(grad, chosen, before, a, b), _planes(grad), threads)
    in_slabs(lambda a, b: _dilate_back_across(before, chosen, out, a, b), _planes(grad), threads)
    return out


def _forward(run: Callable, x: np.ndarray, threads: int) -> tuple[np.ndarray, np.ndarray]:
    out, chosen = np.empty_like(x), np.empty(x.shape, np.uint8)
    in_slabs(lambda a, b: run(x, out, chosen, a, b), _planes(x), threads)
    return out, chosen


def _planes(x: np.ndarray) -> int:
    return x.shape[0] * x.shape[1]


@kernel
def _erode(x, out, chosen, begin, end):
    _, D, H, W = x.shape
    for plane in range(begin, end):
        n, d = divmod(plane, D)
        for h in range(H):
            row, best, who = x[n, d, h], out[n, d, h], chosen[n, d, h]
            d0, d1 = x[n, max(d - 1, 0), h], x[n, min(d + 1, D - 1), h]
            h0, h1 = x[n, d, max(h - 1, 0)], x[n, d, min(h + 1, H - 1)]
            for w in range(W):
                value, choice = row[w], np.uint8(_SELF)
                choice = np.uint8(_D0) if d0[w] < value else choice
                value = min(d0[w], value)
                choice = np.uint8(_D1) if d1[w] < value else choice
                value = min(d1[w], value)
                choice = np.uint8(_H0) if h0[w] < value else choice
                value = min(h0[w], value)
                choice = np.uint8(_H1) if h1[w] < value else choice
                value = min(h1[w], value)
                best[w], who[w] = value, choice
            for w in range(1, W):
                smaller = row[w - 1] < best[w]
                who[w] = np.uint8(_W0) if smaller else who[w]
                best[w] = row[w - 1] if smaller else best[w]
            for w in range(W - 1):
                smaller = row[w + 1] < best[w]
                who[w] = np.uint8(_W1) if smaller else who[w]
                best[w] = row[w + 1] if smaller else best[w]


@kernel
def _erode_back(grad, chosen, out, begin, end):
    _, D, H, W = grad.shape
    nobody = np.full(W, _NOBODY, np.uint8)
    zero = grad.dtype.type(0)
    for plane in range(begin, end):
        n, d = divmod(plane, D)
        for h in range(H):
            g, who, total = grad[n, d, h], chosen[n, d, h], out[n, d, h]
            # The voxel above chose what is below it, which is this one, and so on.
            g_d1, d1 = grad[n, min(d + 1, D - 1), h], chosen[n, d + 1, h] if d + 1 < D else nobody
            g_d0, d0 = grad[n, max(d - 1, 0), h], chosen[n, d - 1, h] if d > 0 else nobody
            g_h1, h1 = grad[n, d, min(h + 1, H - 1)], chosen[n, d, h + 1] if h + 1 < H else nobody
            g_h0, h0 = grad[n, d, max(h - 1, 0)], chosen[n, d, h - 1] if h > 0 else nobody
            for w in range(W):
                value = g[w] if who[w] == _SELF else zero
                value += g_d1[w] if d1[w] == _D0 else zero
                value += g_d0[w] if d0[w] == _D1 else zero
                value += g_h1[w] if h1[w] == _H0 else zero
                value += g_h0[w] if h0[w] == _H1 else zero
                total[w] = value
            for w in range(W - 1):
                total[w] += g[w + 1] if who[w + 1] == _W0 else zero
            for w in range(1, W):
                total[w] += g[w - 1] if who[w - 1] == _W1 else zero


# Choices of a dilation, two bits each for D, H and W: 0 the voxel itself, 1 below, 2 above.


@kernel
def _dilate(x, out, chosen, begin, end):
    _, D, H, W = x.shape
    one, two = np.empty((H, W), x.dtype), np.empty((H, W), x.dtype)
    for plane in range(begin, end):
        n, d = divmod(plane, D)
        for h in range(H):
            row, low, high = x[n, d, h], x[n, max(d - 1, 0), h], x[n, min(d + 1, D - 1), h]
            best, who = one[h], chosen[n, d, h]
            for w in range(W):
                value, choice = row[w], np.uint8(0)
                choice = np.uint8(1) if low[w] > value else choice
                value = max(low[w], value)
                choice = np.uint8(2) if high[w] > value else choice
                best[w], who[w] = max(high[w], value), choice
        for h in range(H):
            row, low, high = one[h], one[max(h - 1, 0)], one[min(h + 1, H - 1)]
            best, who = two[h], chosen[n, d, h]
            for w in range(W):
                value, choice = row[w], np.uint8(0)
                choice = np.uint8(4) if low[w] > value else choice
                value = max(low[w], value)
                choice = np.uint8(8) if high[w] > value else choice
                best[w] = max(high[w], value)
                who[w] |= choice
        for h in range(H):
            row, best, who = two[h], out[n, d, h], chosen[n, d, h]
            for w in range(W):
                value, choice = row[w], np.uint8(0)
                low, high = row[max(w - 1, 0)], row[min(w + 1, W - 1)]
                choice = np.uint8(16) if low > value else choice
                value = max(low, value)
                choice = np.uint8(32) if high > value else choice
                best[w] = max(high, value)
                who[w] |= choice


@kernel
def _dilate_back_in_plane(grad, chosen, out, begin, end):
    _, D, H, W = grad.shape
    one = np.empty((H, W), grad.dtype)
    nobody = np.full(W, _NOBODY, np.uint8)
    zero = grad.dtype.type(0)
    for plane in range(begin, end):
        n, d = divmod(plane, D)
        for h in range(H):
            g, who, total = grad[n, d, h], chosen[n, d, h], one[h]
            for w in range(W):
                total[w] = g[w] if who[w] & 48 == 0 else zero
            for w in range(W - 1):
                total[w] += g[w + 1] if who[w + 1] & 48 == 16 else zero
            for w in range(1, W):
                total[w] += g[w - 1] if who[w - 1] & 48 == 32 else zero
        for h in range(H):
            g, who, total = one[h], chosen[n, d, h], out[n, d, h]
            g_1, above = one[min(h + 1, H - 1)], chosen[n, d, h + 1] if h + 1 < H else nobody
            g_0, below = one[max(h - 1, 0)], chosen[n, d, h - 1] if h > 0 else nobody
            for w in range(W):
                value = g[w] if who[w] & 12 == 0 else zero
                value += g_1[w] if above[w] & 12 == 4 else zero
                value += g_0[w] if below[w] & 12 == 8 else zero
                total[w] = value


@kernel
def _dilate_back_across(grad, chosen, out, begin, end):
    _, D, H, W = grad.shape
    nobody = np.full(W, _NOBODY, np.uint8)
    zero = grad.dtype.type(0)
    for plane in range(begin, end):
        n, d = divmod(plane, D)
        for h in range(H):
            g, who, total = grad[n, d, h], chosen[n, d, h], out[n, d, h]
            g_1, above = grad[n, min(d + 1, D - 1), h], chosen[n, d + 1, h] if d + 1 < D else nobody
            g_0, below = grad[n, max(d - 1, 0), h], chosen[n, d - 1, h] if d > 0 else nobody
            for w in range(W):
                value = g[w] if who[w] & 3 == 0 else zero
                value += g_1[w] if above[w] & 3 == 1 else zero
                value += g_0[w] if below[w] & 3 == 2 else zero
                total[w] = value
