"""Surface elements with areas ("surfels"), as DeepMind's surface-distance defines them (Nikolov et al., 2018).

An element sits at every corner of the voxel lattice whose eight voxels are neither all inside nor all outside. Its
area is that of the up to four triangles that marching cubes draws there. Which triangles those are is data of
surface-distance (Copyright 2018 Google Inc., Apache License 2.0, github.com/google-deepmind/surface-distance,
`lookup_tables.py`), which MONAI carries too; it is kept here in short: of a triangle's normal only the sizes of its
components matter for the area, there are nine kinds, and swapping inside and outside changes nothing.
"""

from __future__ import annotations

import numpy as np

from medseg.jit import kernel
from medseg.metrics.bits import lowest
from medseg.metrics.voxelset import VoxelSet, common, from_below, row_at

_ONE = np.uint64(1)

#: Sizes of the components of the triangles' normals in eighths, for voxels of 1 mm; the length is the area.
_KINDS = {
    "1": (0, 0, 4),
    "2": (0, 2, 2),
    "3": (0, 4, 0),
    "4": (1, 1, 1),
    "5": (2, 0, 2),
    "6": (2, 2, 0),
    "7": (2, 2, 2),
    "8": (3, 3, 3),
    "9": (4, 0, 0),
}

#: The triangles of codes 0 to 127; code 255 - n has those of n.
_TRIANGLES = """
    - 4 4 66 4 55 44 974 4 44 55 974 66 974 974 99
    4 22 44 374 44 174 444 4774 44 224 554 4825 466 8246 9474 947
    4 44 22 347 44 455 224 8245 44 444 174 7744 466 9744 2846 974
    66 374 347 33 664 8546 4374 374 466 3744 8645 374 6666 664 466 66
    4 44 44 466 22 174 224 8246 44 444 455 9744 374 7744 5824 974
    55 174 455 5864 174 11 4471 471 554 1744 5555 455 5864 174 455 55
    44 444 422 3474 224 1744 2222 224 444 4444 1744 444 3744 444 224 44
    974 7474 8245 374 8624 471 422 22 9744 444 554 44 664 44 44 4
"""


def surfels(voxels: VoxelSet) -> VoxelSet:
    """The corners with a surface element; corner (i, j, k) lies between voxels i - 1 and i, j - 1 and j, k - 1 and k."""
    return VoxelSet(*_corners(voxels.table, voxels.place, voxels.words))


def codes(corners: VoxelSet, voxels: VoxelSet, *, turned: bool) -> np.ndarray:
    """(N,) uint8, which of the eight voxels around each point of `corners` are inside.

    Args:
        corners: `surfels(voxels)`.
        voxels: the structure.
        turned: whether the axes are the file's reversed: the bits of a code are in the file's order.
    """
    weight = (128 >> np.arange(8, dtype=np.uint64)).reshape(2, 2, 2)
    weight = np.ascontiguousarray(weight.T if turned else weight)
    n = common(corners, corners)
    return _codes(corners.place, corners.words, voxels.table, voxels.words, weight, np.empty(n, np.uint8))


def areas_mm2(spacing_mm: np.ndarray) -> np.ndarray:
    """(256,) area of each code, for the spacing in the file's order; summed in surface-distance's order."""
    x, y, z = (float(mm) for mm in spacing_mm)
    area = {kind: np.linalg.norm([a / 8 * y * z, b / 8 * x * z, c / 8 * x * y]) for kind, (a, b, c) in _KINDS.items()}
    half = [sum(area[kind] for kind in code.strip("-")) for code in _TRIANGLES.split()]
    return np.array([*half, *half[::-1]], np.float64)


@kernel
def _corners(table, place, words):
    """`table`, `place` and `words` of the corners around the voxels."""
    corner = np.zeros((table.shape[0] + 1, table.shape[1] + 1), np.int32)
    at, rows = np.zeros((4 * len(words), 2), np.int32), 1  # row 0 is empty
    for r in range(1, len(words)):
        for n in range(4):
            i, j = place[r, 0] + n // 2, place[r, 1] + n % 2
            if not corner[i, j]:
                corner[i, j], at[rows, 0], at[rows, 1] = rows, i, j
                rows += 1
    at, out = at[:rows].copy(), np.zeros((rows, words.shape[1]), np.uint64)
    for r in range(1, rows):
        i, j = at[r]
        a, b = row_at(table, i - 1, j - 1), row_at(table, i - 1, j)
        c, d = row_at(table, i, j - 1), row_at(table, i, j)
        for w in range(words.shape[1]):
            some = words[a, w] | words[b, w] | words[c, w] | words[d, w]
            every = words[a, w] & words[b, w] & words[c, w] & words[d, w]
            some |= from_below(words, a, w) | from_below(words, b, w)
            some |= from_below(words, c, w) | from_below(words, d, w)
            every &= from_below(words, a, w) & from_below(words, b, w)
            every &= from_below(words, c, w) & from_below(words, d, w)
            out[r, w] = some & ~every
    return corner, at, out


@kernel
def _codes(place, corners, table, words, weight, out):
    n = 0
    for r in range(1, len(corners)):
        i, j = place[r]
        a, b = row_at(table, i - 1, j - 1), row_at(table, i - 1, j)
        c, d = row_at(table, i, j - 1), row_at(table, i, j)
        for w in range(corners.shape[1]):
            bits = corners[r, w]
            if not bits:
                continue
            upper = words[a, w], words[b, w], words[c, w], words[d, w]
            lower = from_below(words, a, w), from_below(words, b, w), from_below(words, c, w), from_below(words, d, w)
            while bits:
                k, code = np.uint64(lowest(bits)), np.uint64(0)
                for q in range(4):
                    code |= (lower[q] >> k & _ONE) * weight[q >> 1, q & 1, 0]
                    code |= (upper[q] >> k & _ONE) * weight[q >> 1, q & 1, 1]
                out[n] = code
                bits &= bits - _ONE
                n += 1
    return out
