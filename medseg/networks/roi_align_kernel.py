"""RoIAlign on a CPU: the three axes one after the other, each reading only the voxels its samples touch.

Features lie channels last, so that one blend of voxels runs over contiguous memory: a row of voxels with all their
channels along the first two axes, the channels of one voxel along the last. Nothing is kept between RoIs but two small
buffers that stay in the cache. The gradient is written plane by plane: a thread owns its planes of the one buffer, and
RoIs add to a plane in their order, so the result does not depend on the number of threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.jit import in_slabs, kernel
from medseg.networks import roi_align_rows as sparse

if TYPE_CHECKING:
    from collections.abc import Sequence

Taps = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Of one axis, each (R, K): lower voxel int64, its weight, the next voxel's weight, bin int64 (rising along K)."""

TILE = 64
"""Voxels by channels that are transposed at once: 16 KiB."""


def pool(
    features: np.ndarray,
    batch: np.ndarray,
    axes: Sequence[Taps],
    out: np.ndarray,
    *,
    channels_first: bool = False,
    threads: int | None = None,
) -> None:
    """Fill `out` with the bins of every RoI.

    Args:
        features: (B, D, H, W, C) contiguous float32 or float64; or (B, C, D, H, W), of which each RoI turns what it
            touches to channels last: better than turning all, if the RoIs touch less than all.
        batch: (R,) int64, which volume a RoI lies in.
        axes: the samples along D, H and W; weights in the dtype of the features.
        out: (R, Pd, Ph, Pw, C) contiguous, every value is written.
        channels_first: how the features lie.
        threads: at most this many.
    """
    taps = tuple(zip(*axes, strict=True))
    in_slabs(lambda a, b: _pool_rois(features, channels_first, batch, *taps, out, a, b), len(batch), threads)


def spread(
    grad_out: np.ndarray, batch: np.ndarray, axes: Sequence[Taps], grad: np.ndarray, threads: int | None = None
) -> None:
    """Add the adjoint of `pool` to `grad`: (R, Pd, Ph, Pw, C) goes back to (B, D, H, W, C)."""
    taps = tuple(zip(*axes, strict=True))
    in_slabs(lambda a, b: _spread_planes(grad_out, batch, *taps, grad, a, b), grad.shape[0] * grad.shape[1], threads)


def channels_last(source: np.ndarray, out: np.ndarray, threads: int | None = None) -> None:
    """Transpose (N, C, V) into (N, V, C), both contiguous, in tiles that fit the cache."""
    if len(source) > 1:
        in_slabs(lambda a, b: _transpose(source[a:b], out[a:b], 0, source.shape[2]), len(source), threads)
    else:
        in_slabs(lambda a, b: _transpose(source, out, a, b), source.shape[2], threads)


@kernel
def _transpose(source, out, begin, end):
    # By way of a small buffer: channels often lie a multiple of 4 KiB apart, where they push each other out of the cache.
    tile = np.empty((TILE, TILE + 1), source.dtype)
    channels = source.shape[1]
    for n in range(source.shape[0]):
        for v0 in range(begin, end, TILE):
            size = min(TILE, end - v0)
            for c0 in range(0, channels, TILE):
                many = min(TILE, channels - c0)
                for c in range(many):
                    row, part = tile[c], source[n, c0 + c, v0 : v0 + size]
                    for v in range(size):
                        row[v] = part[v]
                for v in range(size):
                    part = out[n, v0 + v, c0 : c0 + many]
                    for c in range(many):
                        part[c] = tile[c, v]


@kernel
def _blend(out, source, origin, stride, index, weight, begin, end, add):
    """Put (or add) into `out` the sum of weight[k] * source[origin + index[k] * stride :] over k in [begin, end)."""
    n = out.size
    if begin == end and not add:
        out[:] = 0
    k = begin
    while k < end:  # up to four at once: `out` is written once, and the compiler makes vectors of each loop
        left = end - k
        a = source[origin + index[k] * stride :][:n]
        if left == 1:
            _blend_1(out, a, weight[k], add)
            return
        b = source[origin + index[k + 1] * stride :][:n]
        if left == 2:
            _blend_2(out, a, b, weight[k], weight[k + 1], add)
            return
        c = source[origin + index[k + 2] * stride :][:n]
        if left == 3:
            _blend_3(out, a, b, c, weight[k], weight[k + 1], weight[k + 2], add)
            return
        d = source[origin + index[k + 3] * stride :][:n]
        _blend_4(out, a, b, c, d, weight[k], weight[k + 1], weight[k + 2], weight[k + 3], add)
        add = True
        k += 4


@kernel
def _blend_1(out, a, u, add):
    if add:
        for i in range(out.size):
            out[i] += u * a[i]
    else:
        for i in range(out.size):
            out[i] = u * a[i]


@kernel
def _blend_2(out, a, b, u, v, add):
    if add:
        for i in range(out.size):
            out[i] += u * a[i] + v * b[i]
    else:
        for i in range(out.size):
            out[i] = u * a[i] + v * b[i]


@kernel
def _blend_3(out, a, b, c, u, v, w, add):
    if add:
        for i in range(out.size):
            out[i] += u * a[i] + v * b[i] + w * c[i]
    else:
        for i in range(out.size):
            out[i] = u * a[i] + v * b[i] + w * c[i]


@kernel
def _blend_4(out, a, b, c, d, u, v, w, x, add):
    if add:
        for i in range(out.size):
            out[i] += u * a[i] + v * b[i] + w * c[i] + x * d[i]
    else:
        for i in range(out.size):
            out[i] = u * a[i] + v * b[i] + w * c[i] + x * d[i]


@kernel
def _crop(features, volume, z_voxels, nz, y_voxels, ny, x_voxels, nx, out):
    """The touched voxels of (B, C, D, H, W) as (nz, ny, nx, C)."""
    C = features.shape[1]
    x0, span = x_voxels[0], x_voxels[nx - 1] + 1 - x_voxels[0]
    tile = np.empty((TILE, span + 1), out.dtype)
    for k in range(nz):
        for j in range(ny):
            to = (k * ny + j) * nx * C
            for c0 in range(0, C, TILE):
                many = min(TILE, C - c0)
                for c in range(many):
                    row, part = tile[c], features[volume, c0 + c, z_voxels[k], y_voxels[j], x0 : x0 + span]
                    for i in range(span):
                        row[i] = part[i]
                for i in range(nx):
                    part = out[to + i * C + c0 : to + i * C + c0 + many]
                    x = x_voxels[i] - x0
                    for c in range(many):
                        part[c] = tile[c, x]


@kernel
def _pool_rois(features, first, batch, low, near, far, bins, out, begin, end):
    D, H, W = features.shape[2:] if first else features.shape[1:4]
    R, P, Q, S, C = out.shape
    real, longest, most = features.dtype, max(D, H, W), 2 * max(low[0].shape[1], low[1].shape[1], low[2].shape[1])
    flat, results, crop = features.reshape(-1), out.reshape(R, -1), np.empty(0, real)
    sums, place = np.empty(longest + 1, real), np.empty(longest + 1, np.int64)
    sums[:], place[:] = 0, -1
    start, index, weight = (
        np.empty((3, max(P, Q, S) + 1), np.int64),
        np.empty((3, most), np.int64),
        np.empty((3, most), real),
    )
    zs, zi, zw = start[0], index[0], weight[0]
    ys, yi, yw = start[1], index[1], weight[1]
    xs, xi, xw = start[2], index[2], weight[2]
    voxels, touched = np.empty((3, longest), np.int64), np.empty(3, np.int64)
    run, length = np.empty(W, np.int64), np.empty(W, np.int64)
    plane, row = np.empty(H * W * C, real), np.empty(W * C, real)
    for r in range(begin, end):
        for a in range(3):
            n = sparse.rows(
                low[a][r], near[a][r], far[a][r], bins[a][r], out.shape[1 + a], sums, start[a], index[a], weight[a]
            )
            # Along y and x, entries are numbered by their place among the touched voxels: the buffers hold only these.
            touched[a] = sparse.touched(index[a], n, place, voxels[a], a > 0 or first)
        nz, ny, nx = touched
        if nz * ny * nx == 0:
            results[r] = 0
            continue
        if first:
            if crop.size < nz * ny * nx * C:
                crop = np.empty(nz * ny * nx * C, real)
            _crop(features, batch[r], voxels[0], nz, voxels[1], ny, voxels[2], nx, crop)
            for j in range(max(ny, nx)):
                voxels[1:, j] = j
            source, origin, z_stride, y_stride = crop, 0, ny * nx * C, nx * C
        else:
            source, origin, z_stride, y_stride = flat, batch[r] * D * H * W * C, H * W * C, W * C
        runs = sparse.runs(voxels[2], nx, run, length)
        for p in range(P):
            for j in range(ny):
                for i in range(runs):
                    to = (j * nx + run[i]) * C
                    at = origin + voxels[1, j] * y_stride + voxels[2, run[i]] * C
                    part = plane[to : to + length[i] * C]
                    _blend(part, source, at, z_stride, zi, zw, zs[p], zs[p + 1], False)
            for q in range(Q):
                part = row[: nx * C]
                _blend(part, plane, 0, nx * C, yi, yw, ys[q], ys[q + 1], False)
                for s in range(S):
                    to = ((p * Q + q) * S + s) * C
                    part = results[r, to : to + C]
                    _blend(part, row, 0, C, xi, xw, xs[s], xs[s + 1], False)


@kernel
def _spread_planes(grad_out, batch, low, near, far, bins, grad, begin, end):
    _, D, H, W, C = grad.shape
    R, P, Q, S, _ = grad_out.shape
    real, longest, most = grad.dtype, max(D, H, W), 2 * max(low[0].shape[1], low[1].shape[1], low[2].shape[1])
    target, sources = grad.reshape(-1), grad_out.reshape(R, -1)
    sums, place = np.empty(longest + 1, real), np.empty(longest + 1, np.int64)
    sums[:], place[:] = 0, -1
    row_start, row_index, row_weight = (
        np.empty(max(P, Q, S) + 1, np.int64),
        np.empty(most, np.int64),
        np.empty(most, real),
    )
    start, index, weight = (
        np.empty((3, longest + 1), np.int64),
        np.empty((3, most), np.int64),
        np.empty((3, most), real),
    )
    zs, zi, zw = start[0], index[0], weight[0]
    ys, yi, yw = start[1], index[1], weight[1]
    xs, xi, xw = start[2], index[2], weight[2]
    voxels, touched = np.empty((3, longest), np.int64), np.empty(3, np.int64)
    run, length = np.empty(W, np.int64), np.empty(W, np.int64)
    plane, rows = np.empty(Q * S * C, real), np.empty(Q * W * C, real)
    for r in range(R):
        if (batch[r] + 1) * D <= begin or batch[r] * D >= end:
            continue
        for a in range(3):
            count = grad_out.shape[1 + a]
            sparse.rows(low[a][r], near[a][r], far[a][r], bins[a][r], count, sums, row_start, row_index, row_weight)
            touched[a] = sparse.columns(
                row_start, row_index, row_weight, count, place, voxels[a], start[a], index[a], weight[a]
            )
        nz, ny, nx = touched
        runs = sparse.runs(voxels[2], nx, run, length)
        for i in range(nz):
            z = batch[r] * D + voxels[0, i]
            if z < begin or z >= end:
                continue
            _blend(plane, sources[r], 0, plane.size, zi, zw, zs[i], zs[i + 1], False)
            for q in range(Q):
                for j in range(nx):
                    part = rows[(q * nx + j) * C : (q * nx + j + 1) * C]
                    _blend(part, plane, q * S * C, C, xi, xw, xs[j], xs[j + 1], False)
            for j in range(ny):
                for k in range(runs):
                    to = ((z * H + voxels[1, j]) * W + voxels[2, run[k]]) * C
                    part = target[to : to + length[k] * C]
                    _blend(part, rows, run[k] * C, nx * C, yi, yw, ys[j], ys[j + 1], True)
