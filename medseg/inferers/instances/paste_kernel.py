"""The rule of paste.py as compiled loops, for one mask on the CPU: no weights are made, every cell is read from cache.

Plane after plane, row after row, voxel after voxel, each a mean of two neighbours along its axis.
"""

from __future__ import annotations

import numpy as np

from medseg.jit import kernel


@kernel
def fill(mask, box, first, out):
    """Write into `out` (d, h, w), whose first voxel is `first` (3,), what `mask` says of the voxels of `box` (6,)."""
    d, h, w = out.shape
    cells, rows, columns = mask.shape
    one = mask.dtype.type(1)
    plane, row = np.empty((rows, columns), mask.dtype), np.empty(columns, mask.dtype)
    left, share = np.empty(w, np.int64), np.empty(w, mask.dtype)
    for x in range(w):
        left[x], share[x] = neighbour(box[2], box[5], first[2] + x, columns)
    for z in range(d):
        k, s = neighbour(box[0], box[3], first[0] + z, cells)
        s, k2 = mask.dtype.type(s), min(k + 1, cells - 1)
        for a in range(rows):
            for b in range(columns):
                plane[a, b] = (one - s) * mask[k, a, b] + s * mask[k2, a, b]
        for y in range(h):
            k, s = neighbour(box[1], box[4], first[1] + y, rows)
            s, k2 = mask.dtype.type(s), min(k + 1, rows - 1)
            for b in range(columns):
                row[b] = (one - s) * plane[k, b] + s * plane[k2, b]
            for x in range(w):
                k = left[x]
                out[z, y, x] = (one - share[x]) * row[k] + share[x] * row[min(k + 1, columns - 1)]


@kernel
def neighbour(low, high, voxel, cells):
    """The cell before a voxel's centre, and the share of the one behind it."""
    place = (voxel + 0.5 - low) * cells / (high - low) - 0.5
    place = min(max(place, 0.0), cells - 1.0)
    cell = min(int(place), max(cells - 2, 0))
    return cell, place - cell
