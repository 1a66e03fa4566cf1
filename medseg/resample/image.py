"""Images: linear interpolation fused over the three axes, or exact cubic B-splines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from medseg.jit import in_slabs, kernel
from medseg.resample.cubic import cubic_aligned, cubic_oblique
from medseg.resample.mapping import Aligned, align, match_axes, target_to_source, with_kernel

if TYPE_CHECKING:
    from medseg.geometry import Grid


def resample_image(
    array: np.ndarray,
    source: Grid,
    target: Grid,
    *,
    fill: float = 0.0,
    order: Literal["linear", "cubic"] = "linear",
    threads: int | None = None,
) -> np.ndarray:
    """Sample an image at the voxel centres of another grid.

    Where the target lies on the source's own lattice (permuted, flipped, cropped, padded) voxels are copied, so
    float32 and smaller values come back bit for bit. Down-sampling does not smooth first. A voxel that is not
    finite spreads to the target voxels beside it.

    Args:
        array: (I, J, K), or (C, I, J, K) with channels first; any integer or real dtype, C or Fortran order.
        source: where the array lies.
        target: where the result shall lie.
        fill: value of target voxels outside the source (see `mapping.py`).
        order: "linear", or "cubic" for the interpolating cubic B-spline with mirrored ends (scipy's `order=3,
            mode="mirror"`).
        threads: at most this many; None: every processor this process may use.

    Returns:
        (I', J', K') or (C, I', J', K') float32, in the memory order of `array`.

    Raises:
        ValueError: the array does not have the shape of its grid, or `order` is unknown.
    """
    if order not in ("linear", "cubic"):
        msg = f"order is 'linear' or 'cubic', got {order!r}"
        raise ValueError(msg)
    if array.ndim == 4:
        return np.stack([resample_image(c, source, target, fill=fill, order=order, threads=threads) for c in array])
    array = with_kernel(array, (np.uint8, np.int16, np.uint16, np.float32, np.float64))
    axis = match_axes(source, target)
    if axis is None:
        _check(array, source)
        oblique = _linear_oblique if order == "linear" else cubic_oblique
        return oblique(array, source, target, fill, threads)
    view = align(array, source, target, axis)
    out = view.output(target.shape, np.float32, fill)
    if all(a.whole for a in view.axes):
        view.inside(out)[...] = view.array[tuple(a.picked for a in view.axes)]
    elif order == "linear":
        _linear_aligned(view, out, threads)
    else:
        cubic_aligned(view, out, threads)
    return view.restore(out)


def _check(array: np.ndarray, source: Grid) -> None:
    if array.shape[-3:] != source.shape:
        msg = f"the array has shape {array.shape}, its grid {source.shape}"
        raise ValueError(msg)


def _linear_aligned(view: Aligned, out: np.ndarray, threads: int | None) -> None:
    tables = [table for axis in view.axes for table in (axis.lower, axis.weight)]
    start = tuple(axis.start for axis in view.axes)
    if view.inside(out).size:
        in_slabs(lambda a, b: _linear_rows(view.array, out, start, *tables, a, b), len(view.axes[0].x), threads)


@kernel
def _linear_rows(src, out, start, lo0, w0, lo1, w1, lo2, w2, begin, end):
    """Blend the two or four source rows around an output row, then sample along the row."""
    one, first = np.uint32(1), lo2.min()
    stop = min(np.intp(lo2.max()) + 2, src.shape[2])
    n = stop - np.intp(first)  # loops from 0 run as vector instructions: numba then knows that no index is negative
    row = np.empty(n + 1, np.float32)
    for a in range(begin, end):
        i, u = lo0[a], w0[a]
        for b in range(len(lo1)):
            j, v = lo1[b], w1[b]
            near = src[i, j][first:stop]
            if u == 0 and v == 0:
                for k in range(n):
                    row[k] = np.float32(near[k])
            elif u == 0 or v == 0:
                far = src[i, j + 1][first:stop] if u == 0 else src[i + 1, j][first:stop]
                w = u + v
                rest = np.float32(1) - w
                for k in range(n):
                    row[k] = rest * np.float32(near[k]) + w * np.float32(far[k])
            else:
                p11 = u * v
                p10, p01 = u - p11, v - p11
                p00 = np.float32(1) - u - p01
                r01, r10 = src[i, j + 1][first:stop], src[i + 1, j][first:stop]
                r11 = src[i + 1, j + 1][first:stop]
                for k in range(n):
                    row[k] = (p00 * np.float32(near[k]) + p01 * np.float32(r01[k])) + (
                        p10 * np.float32(r10[k]) + p11 * np.float32(r11[k])
                    )
            row[n] = row[n - 1]
            line = out[start[0] + a, start[1] + b]
            for c in range(len(lo2)):
                k = lo2[c] - first
                line[start[2] + c] = row[k] + w2[c] * (row[k + one] - row[k])


def _linear_oblique(array: np.ndarray, source: Grid, target: Grid, fill: float, threads: int | None) -> np.ndarray:
    mapping = target_to_source(source, target)
    out = np.empty(target.shape, np.float32)
    src = np.ascontiguousarray(array)
    in_slabs(lambda a, b: _linear_voxels(src, out, mapping, np.float32(fill), a, b), target.shape[0], threads)
    return out


@kernel
def corner(x, n):
    """(lower voxel, upper voxel, weight of the upper) at source index x; lower is -1 outside."""
    if not (-0.500001 <= x <= n - 0.499999):
        return -1, -1, 0.0
    x = min(max(x, 0.0), n - 1.0)
    lo = int(x)
    return lo, min(lo + 1, n - 1), x - lo


@kernel
def _linear_voxels(src, out, m, fill, begin, end):
    n0, n1, n2 = src.shape
    for a in range(begin, end):
        for b in range(out.shape[1]):
            for c in range(out.shape[2]):
                i, i2, u = corner(m[0, 0] * a + m[0, 1] * b + m[0, 2] * c + m[0, 3], n0)
                j, j2, v = corner(m[1, 0] * a + m[1, 1] * b + m[1, 2] * c + m[1, 3], n1)
                k, k2, w = corner(m[2, 0] * a + m[2, 1] * b + m[2, 2] * c + m[2, 3], n2)
                if i < 0 or j < 0 or k < 0:
                    out[a, b, c] = fill
                    continue
                low = (1 - v) * ((1 - w) * src[i, j, k] + w * src[i, j, k2]) + v * (
                    (1 - w) * src[i, j2, k] + w * src[i, j2, k2]
                )
                high = (1 - v) * ((1 - w) * src[i2, j, k] + w * src[i2, j, k2]) + v * (
                    (1 - w) * src[i2, j2, k] + w * src[i2, j2, k2]
                )
                out[a, b, c] = (1 - u) * low + u * high
