"""Logits on the network's grid -> labels on the image's grid, without logits at full resolution.

21 classes on 512 x 512 x 300 voxels would be 6.6 GB of float32; here only the label map is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.jit import in_slabs, kernel
from medseg.resample.image import corner
from medseg.resample.mapping import align, match_axes, target_to_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.geometry import Grid


def labels_from_logits(
    logits: np.ndarray,
    source: Grid,
    target: Grid,
    *,
    regions: Sequence[int] | None = None,
    threads: int | None = None,
) -> np.ndarray:
    """Interpolate logits linearly at the target's voxel centres and keep only the label.

    Args:
        logits: (C, I, J, K) real; float32 is read in place, anything else becomes float32 first.
        source: where the logits lie.
        target: where the labels shall lie.
        regions: None for classes that exclude each other (label = index of the greatest logit, the lower on a
            tie); else the label value of each channel of a sigmoid output, painted in this order wherever the
            channel's logit is above 0 (nested regions: the largest first).
        threads: at most this many; None: every processor this process may use.

    Returns:
        (I', J', K') uint8, 0 outside the source, in the memory order of `logits`.

    Raises:
        ValueError: shapes or regions do not fit, or a label is above 255.
    """
    if logits.ndim != 4 or logits.shape[1:] != source.shape:
        msg = f"logits are (C, I, J, K) on a grid of {source.shape}, got {logits.shape}"
        raise ValueError(msg)
    values = np.arange(len(logits)) if regions is None else np.asarray(regions, np.int64)
    if len(values) != len(logits) or values.min() < 0 or values.max() > 255:
        msg = f"{len(logits)} channels need as many label values in 0...255, got {values.tolist()}"
        raise ValueError(msg)
    paint = regions is not None
    values = values.astype(np.uint8)
    logits = logits.astype(np.float32, copy=False)
    axis = match_axes(source, target)
    if axis is None:
        out = np.zeros(target.shape, np.uint8)
        src, mapping = np.ascontiguousarray(logits), target_to_source(source, target)
        in_slabs(lambda a, b: _label_voxels(src, out, mapping, values, paint, a, b), target.shape[0], threads)
        return out
    view = align(logits, source, target, axis)
    out = view.output(target.shape, np.uint8, 0)
    if view.inside(out).size:
        tables = [table for axis in view.axes for table in (axis.lower, axis.weight)]
        start = tuple(axis.start for axis in view.axes)
        n = len(view.axes[0].x)
        in_slabs(lambda a, b: _label_rows(view.array, out, start, *tables, values, paint, a, b), n, threads)
    return view.restore(out)


@kernel
def _label_rows(src, out, start, lo0, w0, lo1, w1, lo2, w2, values, paint, begin, end):
    """One channel's row after the other against a running maximum, so that only rows are held."""
    one, first = np.uint32(1), lo2.min()
    stop = min(np.intp(lo2.max()) + 2, src.shape[3])
    n = stop - np.intp(first)  # loops from 0 run as vector instructions: numba then knows that no index is negative
    row = np.empty(n + 1, np.float32)
    here, best = np.empty(len(lo2), np.float32), np.empty(len(lo2), np.float32)
    label = np.empty(len(lo2), np.uint8)
    for a in range(begin, end):
        i, u = lo0[a], w0[a]
        i2 = i + 1 if u > 0 else i
        for b in range(len(lo1)):
            j, v = lo1[b], w1[b]
            j2 = j + 1 if v > 0 else j
            p11 = u * v
            p10, p01 = u - p11, v - p11
            p00 = np.float32(1) - u - p01
            best[:] = np.float32(0) if paint else np.float32(-np.inf)
            label[:] = 0
            for channel in range(len(src)):
                r00, r01 = src[channel, i, j][first:stop], src[channel, i, j2][first:stop]
                r10, r11 = src[channel, i2, j][first:stop], src[channel, i2, j2][first:stop]
                for k in range(n):
                    row[k] = (p00 * r00[k] + p01 * r01[k]) + (p10 * r10[k] + p11 * r11[k])
                row[n] = row[n - 1]
                for c in range(len(lo2)):
                    k = lo2[c] - first
                    here[c] = row[k] + w2[c] * (row[k + one] - row[k])
                value = values[channel]
                for c in range(len(lo2)):  # a loop of its own, without branches: it runs as vector instructions
                    above = here[c] > best[c]
                    label[c] = value if above else label[c]
                    best[c] = here[c] if above and not paint else best[c]
            out[start[0] + a, start[1] + b, start[2] : start[2] + len(lo2)] = label


@kernel
def _label_voxels(src, out, m, values, paint, begin, end):
    _, n0, n1, n2 = src.shape
    for a in range(begin, end):
        for b in range(out.shape[1]):
            for c in range(out.shape[2]):
                i, i2, u = corner(m[0, 0] * a + m[0, 1] * b + m[0, 2] * c + m[0, 3], n0)
                j, j2, v = corner(m[1, 0] * a + m[1, 1] * b + m[1, 2] * c + m[1, 3], n1)
                k, k2, w = corner(m[2, 0] * a + m[2, 1] * b + m[2, 2] * c + m[2, 3], n2)
                if i < 0 or j < 0 or k < 0:
                    continue
                best = 0.0 if paint else -np.inf
                for channel in range(len(src)):
                    s = src[channel]
                    low = (1 - v) * ((1 - w) * s[i, j, k] + w * s[i, j, k2]) + v * (
                        (1 - w) * s[i, j2, k] + w * s[i, j2, k2]
                    )
                    high = (1 - v) * ((1 - w) * s[i2, j, k] + w * s[i2, j, k2]) + v * (
                        (1 - w) * s[i2, j2, k] + w * s[i2, j2, k2]
                    )
                    here = (1 - u) * low + u * high
                    if here > best:
                        out[a, b, c] = values[channel]
                        if not paint:
                            best = here
