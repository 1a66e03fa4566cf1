"""An image and its labels pulled through a spline in one loop, compiled: no field of coordinates is ever in memory.

Of each output row the coordinates are blended from four rows, which are blended from control points once a plane.
Voxels whose eight neighbours all exist take the short way; where these are all of one label, nobody votes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.jit import in_slabs, kernel
from medseg.transforms.spline import spline_taps
from medseg.transforms.vote import vote

if TYPE_CHECKING:
    from collections.abc import Sequence


def pull(
    image: np.ndarray, labels: np.ndarray, control: np.ndarray, size: Sequence[int], threads: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """What `medseg.transforms.warp` says, for contiguous arrays; C or L may be 0.

    Args:
        image: (C, I, J, K) float32.
        labels: (L, I, J, K) integers, same grid.
        control: (3, m, m, m) float32 input voxel indices at the control points.
        size: output voxels (D, H, W).
        threads: at most this many.

    Returns:
        (C, D, H, W) and (L, D, H, W).
    """
    out, out_labels = np.empty((len(image), *size), image.dtype), np.empty((len(labels), *size), labels.dtype)
    taps = [tap for n, m in zip(size, control.shape[1:], strict=True) for tap in spline_taps(n, m)]
    shape, voxels, places = np.array(image.shape[1:], np.int64), int(np.prod(image.shape[1:])), int(np.prod(size))
    source = image.reshape(len(image), voxels), labels.reshape(len(labels), voxels)
    target = out.reshape(len(image), places), out_labels.reshape(len(labels), places)
    in_slabs(lambda a, b: _pull(*source, shape, control, *taps, *target, a, b), size[0], threads)
    return out, out_labels


@kernel
def _blend(out, a, b, c, d, p, q, r, s):
    for x in range(out.size):
        out[x] = p * a[x] + q * b[x] + r * c[x] + s * d[x]


@kernel
def _rows(plane, cell, weights, rows):
    """Blend control values (3, mh, mw) along the last axis: rows (3, mh, W)."""
    for a in range(3):
        for b in range(plane.shape[1]):
            line, row = plane[a, b], rows[a, b]
            for w in range(row.size):
                c = cell[w]
                row[w] = (
                    weights[0, w] * line[c] + weights[1, w] * line[c + 1]
                    + weights[2, w] * line[c + 2] + weights[3, w] * line[c + 3]
                )  # fmt: skip


@kernel
def _locate(place, shape, first, fraction):
    """Of a row of places (3, W): the lowest of eight voxels (-1: not all of them exist), and how far beyond it."""
    ni, nj, nk = np.int32(shape[0]), np.int32(shape[1]), np.int32(shape[2])
    mi, mj, mk = np.float32(ni - 1), np.float32(nj - 1), np.float32(nk - 1)
    xs, ys, zs = place[0], place[1], place[2]
    us, vs, ts = fraction[0], fraction[1], fraction[2]
    zero = np.float32(0)
    for w in range(first.size):
        x, y, z = xs[w], ys[w], zs[w]
        inside = (x >= zero) & (x < mi) & (y >= zero) & (y < mj) & (z >= zero) & (z < mk)
        x, y, z = (x if inside else zero), (y if inside else zero), (z if inside else zero)
        i, j, k = np.int32(x), np.int32(y), np.int32(z)
        us[w], vs[w], ts[w] = x - np.float32(i), y - np.float32(j), z - np.float32(k)
        first[w] = (i * nj + j) * nk + k if inside else np.int32(-1)


@kernel
def _linear(image, p, u, v, t, rise_i, rise_j):
    q, one = p + rise_i, np.uint64(1)
    a, b, c, d = image[p], image[p + rise_j], image[q], image[q + rise_j]
    a += t * (image[p + one] - a)
    b += t * (image[p + rise_j + one] - b)
    c += t * (image[q + one] - c)
    d += t * (image[q + rise_j + one] - d)
    a += v * (b - a)
    c += v * (d - c)
    return a + u * (c - a)


@kernel
def _corner(shape, i, j, k, e):
    """Flat index of one of the eight voxels from (i, j, k) on, -1 outside."""
    p, q, r = i + (e >> 2 & 1), j + (e >> 1 & 1), k + (e & 1)
    if p < 0 or p >= shape[0] or q < 0 or q >= shape[1] or r < 0 or r >= shape[2]:
        return -1
    return (p * shape[1] + q) * shape[2] + r


@kernel
def _at_border(image, labels, shape, x, y, z, corners, found, weight, out, out_labels, to):
    """One voxel whose neighbours do not all exist: those outside are 0."""
    if not (-1 < x < shape[0] and -1 < y < shape[1] and -1 < z < shape[2]):  # NaN too
        for c in range(image.shape[0]):
            out[c, to] = 0
        for c in range(labels.shape[0]):
            out_labels[c, to] = 0
        return
    i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    u, v, t = x - np.float32(i), y - np.float32(j), z - np.float32(k)
    for c in range(image.shape[0]):
        total = np.float32(0)
        for e in range(8):
            at = _corner(shape, i, j, k, e)
            if at >= 0:
                total += (u if e & 4 else 1 - u) * (v if e & 2 else 1 - v) * (t if e & 1 else 1 - t) * image[c, at]
        out[c, to] = total
    for c in range(labels.shape[0]):
        for e in range(8):
            at = _corner(shape, i, j, k, e)
            corners[e] = labels[c, at] if at >= 0 else 0
        out_labels[c, to] = vote(corners, u, v, t, found, weight)


@kernel
def _of_one_label(labels, p, rise_i, rise_j):
    q, one, l = p + rise_i, np.uint64(1), labels[p]  # noqa: E741
    return (
        labels[p + one] == l and labels[p + rise_j] == l and labels[p + rise_j + one] == l and labels[q] == l
        and labels[q + one] == l and labels[q + rise_j] == l and labels[q + rise_j + one] == l
    )  # fmt: skip


@kernel
def _pull(
    image, labels, shape, control, cell_d, weights_d, cell_h, weights_h, cell_w, weights_w, out, out_labels, begin, end
):  # fmt: skip
    H, W = cell_h.size, cell_w.size
    plane = np.empty(control.shape[:1] + control.shape[2:], np.float32)
    rows = np.empty((3, control.shape[2], W), np.float32)
    place, fraction, first = np.empty((3, W), np.float32), np.empty((3, W), np.float32), np.empty(W, np.int32)
    corners, found, weight = np.empty(8, labels.dtype), np.empty(8, labels.dtype), np.empty(8, np.float32)
    rise_i, rise_j = np.uint64(shape[1] * shape[2]), np.uint64(shape[2])
    for d in range(begin, end):
        c = cell_d[d]
        for a in range(3):
            for b in range(control.shape[2]):
                _blend(
                    plane[a, b], control[a, c, b], control[a, c + 1, b], control[a, c + 2, b], control[a, c + 3, b],
                    weights_d[0, d], weights_d[1, d], weights_d[2, d], weights_d[3, d],
                )  # fmt: skip
        _rows(plane, cell_w, weights_w, rows)
        for h in range(H):
            c = cell_h[h]
            for a in range(3):
                _blend(
                    place[a], rows[a, c], rows[a, c + 1], rows[a, c + 2], rows[a, c + 3],
                    weights_h[0, h], weights_h[1, h], weights_h[2, h], weights_h[3, h],
                )  # fmt: skip
            _locate(place, shape, first, fraction)
            for w in range(W):
                to = (d * H + h) * W + w
                if first[w] < 0:
                    x, y, z = place[0, w], place[1, w], place[2, w]
                    _at_border(image, labels, shape, x, y, z, corners, found, weight, out, out_labels, to)
                    continue
                # Unsigned: numba need not ask of eight indices whether they count from the end.
                p, u, v, t = np.uint64(first[w]), fraction[0, w], fraction[1, w], fraction[2, w]
                for c in range(image.shape[0]):
                    out[c, to] = _linear(image[c], p, u, v, t, rise_i, rise_j)
                for c in range(labels.shape[0]):
                    if _of_one_label(labels[c], p, rise_i, rise_j):
                        out_labels[c, to] = labels[c, p]
                        continue
                    for e in range(8):
                        corners[e] = labels[
                            c, p + np.uint64(e >> 2 & 1) * rise_i + np.uint64(e >> 1 & 1) * rise_j + np.uint64(e & 1)
                        ]
                    out_labels[c, to] = vote(corners, u, v, t, found, weight)
