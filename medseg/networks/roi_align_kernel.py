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

if TYPE_CHECKING:
    from collections.abc import Sequence

Taps = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Of one axis, each (R, K): lower voxel int64, its weight, the next voxel's weight, bin int64 (rising along K)."""


def pool(
    features: np.ndarray, batch: np.ndarray, axes: Sequence[Taps], out: np.ndarray, threads: int | None = None
) -> None:
    """Fill `out` with the bins of every RoI.

    Args:
        features: (B, D, H, W, C) contiguous float32 or float64.
        batch: (R,) int64, which volume a RoI lies in.
        axes: the samples along D, H and W; weights in the dtype of the features.
        out: (R, Pd, Ph, Pw, C) contiguous, every value is written.
        threads: at most this many.
    """
    flat = [array for taps in axes for array in taps]
    in_slabs(lambda a, b: _pool_rois(features, batch, *flat, out, a, b), len(batch), threads)


def spread(
    grad_out: np.ndarray, batch: np.ndarray, axes: Sequence[Taps], grad: np.ndarray, threads: int | None = None
) -> None:
    """Add the adjoint of `pool` to `grad`: (R, Pd, Ph, Pw, C) goes back to (B, D, H, W, C)."""
    flat = [array for taps in axes for array in taps]
    in_slabs(lambda a, b: _spread_planes(grad_out, batch, *flat, grad, a, b), grad.shape[0] * grad.shape[1], threads)


def channels_last(source: np.ndarray, out: np.ndarray, threads: int | None = None) -> None:
    """Transpose (N, C, V) into (N, V, C), both contiguous, in tiles that fit the cache."""
    # Channels that lie a multiple of 4 KiB apart fall on the same cache lines: then fewer at a time.
    tile = 8 if source.shape[2] * source.itemsize % 4096 == 0 else 64
    if len(source) > 1:
        in_slabs(lambda a, b: _transpose(source[a:b], out[a:b], 64, tile, 0, source.shape[2]), len(source), threads)
    else:
        in_slabs(lambda a, b: _transpose(source, out, 64, tile, a, b), source.shape[2], threads)


@kernel
def _transpose(source, out, rows, columns, begin, end):
    for n in range(source.shape[0]):
        for v0 in range(begin, end, rows):
            for c0 in range(0, source.shape[1], columns):
                for v in range(v0, min(end, v0 + rows)):
                    for c in range(c0, min(source.shape[1], c0 + columns)):
                        out[n, v, c] = source[n, c, v]


@kernel
def _blend(out, source, origin, stride, index, weight, begin, end, add):
    """out (+)= the sum over k in [begin, end) of weight[k] * source[origin + index[k] * stride :], up to four at once."""
    n = out.size
    if begin == end and not add:
        for i in range(n):
            out[i] = 0
    k = begin
    while k < end:
        left = end - k
        w0 = weight[k]
        a = origin + index[k] * stride
        s0 = source[a : a + n]
        if left == 1:
            if add:
                for i in range(n):
                    out[i] += w0 * s0[i]
            else:
                for i in range(n):
                    out[i] = w0 * s0[i]
            return
        w1 = weight[k + 1]
        a = origin + index[k + 1] * stride
        s1 = source[a : a + n]
        if left == 2:
            if add:
                for i in range(n):
                    out[i] += w0 * s0[i] + w1 * s1[i]
            else:
                for i in range(n):
                    out[i] = w0 * s0[i] + w1 * s1[i]
            return
        w2 = weight[k + 2]
        a = origin + index[k + 2] * stride
        s2 = source[a : a + n]
        if left == 3:
            if add:
                for i in range(n):
                    out[i] += w0 * s0[i] + w1 * s1[i] + w2 * s2[i]
            else:
                for i in range(n):
                    out[i] = w0 * s0[i] + w1 * s1[i] + w2 * s2[i]
            return
        w3 = weight[k + 3]
        a = origin + index[k + 3] * stride
        s3 = source[a : a + n]
        if add:
            for i in range(n):
                out[i] += w0 * s0[i] + w1 * s1[i] + w2 * s2[i] + w3 * s3[i]
        else:
            for i in range(n):
                out[i] = w0 * s0[i] + w1 * s1[i] + w2 * s2[i] + w3 * s3[i]
        add = True
        k += 4


@kernel
def _rows(low, near, far, bins, count, scratch, start, index, weight):
    """The rows of the interpolation matrix, sparse: bin p is the sum of weight[k] * voxel index[k], k < start[p + 1].

    Samples that share a voxel are joined. `scratch` is zero before and after. Returns how many entries there are.
    """
    n = 0
    k = 0
    for p in range(count):
        start[p] = n
        first, last = scratch.size, -1
        while k < low.size and bins[k] <= p:
            if near[k] != 0 or far[k] != 0:
                v = low[k]
                scratch[v] += near[k]
                scratch[v + 1] += far[k]
                first, last = min(first, v), max(last, v + 1)
            k += 1
        for v in range(first, last + 1):
            if scratch[v] != 0:
                index[n], weight[n] = v, scratch[v]
                scratch[v] = 0
                n += 1
    start[count] = n
    return n


@kernel
def _columns(start, index, weight, count, place, voxels, t_start, t_index, t_weight):
    """The same matrix by its columns: which voxels are touched, rising, and which bins each of them feeds.

    `place` is -1 before; afterwards place[v] is the row of voxel v among the touched ones. Returns their number.
    """
    n = start[count]
    low, high = place.size, -1
    for k in range(n):
        low, high = min(low, index[k]), max(high, index[k])
        place[index[k]] = 0
    touched = 0
    for v in range(low, high + 1):
        if place[v] == 0:
            place[v] = touched
            voxels[touched] = v
            t_start[touched + 1] = 0
            touched += 1
    t_start[0] = 0
    for k in range(n):
        t_start[place[index[k]] + 1] += 1
    for j in range(touched):
        t_start[j + 1] += t_start[j]
    for p in range(count):  # bins rise within a voxel; t_start moves on to its end and is set back below
        for k in range(start[p], start[p + 1]):
            j = place[index[k]]
            t_index[t_start[j]], t_weight[t_start[j]] = p, weight[k]
            t_start[j] += 1
    for j in range(touched, 0, -1):
        t_start[j] = t_start[j - 1]
    t_start[0] = 0
    return touched


@kernel
def _clear(place, voxels, touched):
    for j in range(touched):
        place[voxels[j]] = -1


@kernel
def _runs(voxels, touched, begin, length):
    """Runs of neighbouring touched voxels, as places among the touched ones. Returns how many runs."""
    n = 0
    for j in range(touched):
        if j == 0 or voxels[j] != voxels[j - 1] + 1:
            begin[n], length[n] = j, 0
            n += 1
        length[n - 1] += 1
    return n


@kernel
def _pool_rois(features, batch, z_low, z_near, z_far, z_bin, y_low, y_near, y_far, y_bin, x_low, x_near, x_far, x_bin, out, a, b):  # fmt: skip
    _, D, H, W, C = features.shape
    _, P, Q, S, _ = out.shape
    real = features.dtype
    source = features.reshape(-1)
    scratch = np.zeros(max(D, H, W) + 1, real)
    zs, zi, zw = np.empty(P + 1, np.int64), np.empty(2 * z_low.shape[1], np.int64), np.empty(2 * z_low.shape[1], real)
    ys, yi, yw = np.empty(Q + 1, np.int64), np.empty(2 * y_low.shape[1], np.int64), np.empty(2 * y_low.shape[1], real)
    xs, xi, xw = np.empty(S + 1, np.int64), np.empty(2 * x_low.shape[1], np.int64), np.empty(2 * x_low.shape[1], real)
    y_place, y_voxels = np.full(H + 1, -1, np.int64), np.empty(H, np.int64)
    x_place, x_voxels = np.full(W + 1, -1, np.int64), np.empty(W, np.int64)
    t_start = np.empty(max(H, W) + 1, np.int64)
    t_index, t_weight = np.empty(max(yi.size, xi.size), np.int64), np.empty(max(yi.size, xi.size), real)
    begin, length = np.empty(W, np.int64), np.empty(W, np.int64)
    plane, row = np.empty(H * W * C, real), np.empty(W * C, real)
    for r in range(a, b):
        bins = out[r].reshape(-1)
        z_count = _rows(z_low[r], z_near[r], z_far[r], z_bin[r], P, scratch, zs, zi, zw)
        y_count = _rows(y_low[r], y_near[r], y_far[r], y_bin[r], Q, scratch, ys, yi, yw)
        x_count = _rows(x_low[r], x_near[r], x_far[r], x_bin[r], S, scratch, xs, xi, xw)
        if z_count == 0 or y_count == 0 or x_count == 0:
            bins[:] = 0
            continue
        ny = _columns(ys, yi, yw, Q, y_place, y_voxels, t_start, t_index, t_weight)
        nx = _columns(xs, xi, xw, S, x_place, x_voxels, t_start, t_index, t_weight)
        runs = _runs(x_voxels, nx, begin, length)
        for k in range(y_count):
            yi[k] = y_place[yi[k]]
        for k in range(x_count):
            xi[k] = x_place[xi[k]]
        for p in range(P):
            for j in range(ny):
                for i in range(runs):
                    to = (j * nx + begin[i]) * C
                    origin = ((batch[r] * D * H + y_voxels[j]) * W + x_voxels[begin[i]]) * C
                    part = plane[to : to + length[i] * C]
                    _blend(part, source, origin, H * W * C, zi, zw, zs[p], zs[p + 1], False)
            for q in range(Q):
                part = row[: nx * C]
                _blend(part, plane, 0, nx * C, yi, yw, ys[q], ys[q + 1], False)
                for s in range(S):
                    to = ((p * Q + q) * S + s) * C
                    _blend(bins[to : to + C], row, 0, C, xi, xw, xs[s], xs[s + 1], False)
        _clear(y_place, y_voxels, ny)
        _clear(x_place, x_voxels, nx)


@kernel
def _spread_planes(grad_out, batch, z_low, z_near, z_far, z_bin, y_low, y_near, y_far, y_bin, x_low, x_near, x_far, x_bin, grad, a, b):  # fmt: skip
    _, D, H, W, C = grad.shape
    R, P, Q, S, _ = grad_out.shape
    real = grad.dtype
    target = grad.reshape(-1)
    scratch = np.zeros(max(D, H, W) + 1, real)
    size = 2 * max(z_low.shape[1], y_low.shape[1], x_low.shape[1])
    start, index, weight = np.empty(max(P, Q, S) + 1, np.int64), np.empty(size, np.int64), np.empty(size, real)
    zs, zi, zw = np.empty(D + 1, np.int64), np.empty(size, np.int64), np.empty(size, real)
    ys, yi, yw = np.empty(H + 1, np.int64), np.empty(size, np.int64), np.empty(size, real)
    xs, xi, xw = np.empty(W + 1, np.int64), np.empty(size, np.int64), np.empty(size, real)
    place = np.full(max(D, H, W) + 1, -1, np.int64)
    z_voxels, y_voxels, x_voxels = np.empty(D, np.int64), np.empty(H, np.int64), np.empty(W, np.int64)
    begin, length = np.empty(W, np.int64), np.empty(W, np.int64)
    plane, rows = np.empty(Q * S * C, real), np.empty(Q * W * C, real)
    for r in range(R):
        if (batch[r] + 1) * D <= a or batch[r] * D >= b:
            continue
        _rows(z_low[r], z_near[r], z_far[r], z_bin[r], P, scratch, start, index, weight)
        nz = _columns(start, index, weight, P, place, z_voxels, zs, zi, zw)
        _clear(place, z_voxels, nz)
        if nz == 0 or batch[r] * D + z_voxels[nz - 1] < a or batch[r] * D + z_voxels[0] >= b:
            continue
        _rows(y_low[r], y_near[r], y_far[r], y_bin[r], Q, scratch, start, index, weight)
        ny = _columns(start, index, weight, Q, place, y_voxels, ys, yi, yw)
        _clear(place, y_voxels, ny)
        _rows(x_low[r], x_near[r], x_far[r], x_bin[r], S, scratch, start, index, weight)
        nx = _columns(start, index, weight, S, place, x_voxels, xs, xi, xw)
        _clear(place, x_voxels, nx)
        runs = _runs(x_voxels, nx, begin, length)
        source = grad_out[r].reshape(-1)
        for i in range(nz):
            z = batch[r] * D + z_voxels[i]
            if z < a or z >= b:
                continue
            _blend(plane, source, 0, Q * S * C, zi, zw, zs[i], zs[i + 1], False)
            for q in range(Q):
                for j in range(nx):
                    to = (q * nx + j) * C
                    _blend(rows[to : to + C], plane, q * S * C, C, xi, xw, xs[j], xs[j + 1], False)
            for j in range(ny):
                for k in range(runs):
                    to = ((z * H + y_voxels[j]) * W + x_voxels[begin[k]]) * C
                    part = target[to : to + length[k] * C]
                    _blend(part, rows, begin[k] * C, nx * C, yi, yw, ys[j], ys[j + 1], True)
