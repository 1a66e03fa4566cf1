"""Exact distance from every voxel of one surface to the nearest voxel of another.

Rows of the other surface are visited in the order of their distance from the voxel's own row, until the next row is
farther away than the nearest voxel found. Surfaces that are compared lie close together, so few rows are visited and
nothing is computed in between them. What has no neighbour within `_HALF` rows is looked up in a tree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.jit import kernel
from medseg.metrics.bits import lowest, zeros_above
from medseg.metrics.voxelset import row_at

if TYPE_CHECKING:
    from medseg.metrics.voxelset import VoxelSet

_HALF = 24

#: Below this many pairs of points all distances cost less than a tree.
_PAIRS = 1 << 21


@dataclass(frozen=True, eq=False)
class Lattice:
    """Distances between voxels of one grid.

    Squares are tabulated, not computed in the kernel, so that they are rounded as NumPy and SciPy round them.

    Args:
        spacing_mm: along the axes of the arrays as the kernels see them.
        turned: whether those are the file's axes reversed; distances are summed in the file's order.
        squares: per axis (N,), mm2 of n voxels.
        offsets: (M, 2) int64 offsets to other rows, the nearest first, as far as all of that distance are listed.
        aside: (M,) mm2 of the offsets.
        reach: mm2 up to which offsets are complete.
    """

    spacing_mm: np.ndarray
    turned: bool
    squares: tuple[np.ndarray, np.ndarray, np.ndarray]
    offsets: np.ndarray
    aside: np.ndarray
    reach: float

    @property
    def file_spacing_mm(self) -> np.ndarray:
        """The spacing along the axes of the file."""
        return self.spacing_mm[::-1] if self.turned else self.spacing_mm


def lattice(shape: tuple[int, ...], spacing_mm: np.ndarray, *, turned: bool) -> Lattice:
    """The lattice of arrays of this shape (I, J, K) with `spacing_mm` in the same order."""
    x, y, z = ((np.arange(max(n, _HALF + 1) + 2) * mm) ** 2 for n, mm in zip(shape, spacing_mm, strict=True))
    half = _HALF * min(spacing_mm[:2])
    i, j = (np.arange(-n, n + 1) for n in (half / spacing_mm[:2]).astype(np.int64))
    aside = x[np.abs(i)][:, None] + y[np.abs(j)]
    order = np.argsort(aside, axis=None, kind="stable")
    order = order[aside.ravel()[order] <= half**2]
    offsets = np.stack([g.ravel() for g in np.meshgrid(i, j, indexing="ij")], 1)[order]
    return Lattice(spacing_mm, turned, (x, y, z), offsets, aside.ravel()[order], float(half**2))


def distances(points: np.ndarray, other: VoxelSet, others: np.ndarray, grid: Lattice) -> np.ndarray:
    """(N,) float64 mm from each point to the nearest voxel of the other set.

    Args:
        points: (N, 3) int32 in the box of `other`.
        other: not empty.
        others: its points.
        grid: lattice of both.
    """
    squared = np.empty(len(points))
    _walk(points, other.table, other.words, grid.offsets, grid.aside, *grid.squares, grid.turned, grid.reach, squared)
    far = np.flatnonzero(np.isnan(squared))
    if far.size:
        nearest = others[_nearest(points[far] * grid.spacing_mm, others * grid.spacing_mm)]
        apart = [table[n] for table, n in zip(grid.squares, np.abs(points[far] - nearest).T, strict=True)]
        a, b, c = apart[::-1] if grid.turned else apart
        squared[far] = a + b + c
    return np.sqrt(squared)


def _nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Index of the nearest of `others` (M, 3) for each of `points` (N, 3)."""
    if len(points) * len(others) <= _PAIRS:
        return _of_all(points, others)
    from scipy.spatial import KDTree

    return np.asarray(KDTree(others, balanced_tree=False, compact_nodes=False).query(points)[1])


@kernel
def _of_all(points, others):
    out = np.zeros(len(points), np.int64)
    for n in range(len(points)):
        best = np.inf
        for m in range(len(others)):
            x, y, z = others[m, 0] - points[n, 0], others[m, 1] - points[n, 1], others[m, 2] - points[n, 2]
            squared = x * x + y * y + z * z
            if squared < best:
                best, out[n] = squared, m
    return out


@kernel
def _walk(points, table, words, offsets, aside, x, y, z, turned, reach, out):
    """Squared distances; NaN where rows beyond `reach` might be nearer."""
    for n in range(len(points)):
        i, j, k = points[n]
        best, row, apart = np.inf, 0, 0
        for m in range(len(offsets)):
            if aside[m] >= best:
                break
            r = row_at(table, i + offsets[m, 0], j + offsets[m, 1])
            if r:
                d = _along(words, r, k, aside[m], z, best)
                if d >= 0:
                    best, row, apart = aside[m] + z[d], m, d
        if best > reach:
            out[n] = np.nan
        elif turned:
            out[n] = z[apart] + y[abs(offsets[row, 1])] + x[abs(offsets[row, 0])]
        else:
            out[n] = best


@kernel
def _along(words, r, k, aside, z, best):
    """Voxels from k to the nearest one of row r; -1 if none is nearer than `best`."""
    w, shift, found = k >> 6, k & 63, -1
    up = words[r, w] >> np.uint64(shift)
    if up & np.uint64(1):
        return 0
    down = words[r, w] << np.uint64(63 - shift)
    if up or down:
        found = min(lowest(up), zeros_above(down))
        if aside + z[found] >= best:
            found = -1
        else:
            best = aside + z[found]
    for v in range(w + 1, words.shape[1]):
        if aside + z[64 * v - k] >= best:
            break
        if words[r, v]:
            d = 64 * v - k + lowest(words[r, v])
            if aside + z[d] < best:
                best, found = aside + z[d], d
            break
    for v in range(w - 1, -1, -1):
        if aside + z[k - 64 * v - 63] >= best:
            break
        if words[r, v]:
            d = k - 64 * v - 63 + zeros_above(words[r, v])
            if aside + z[d] < best:
                found = d
            break
    return found
