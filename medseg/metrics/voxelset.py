"""A set of voxels as rows of bits: little memory, 64 voxels an instruction, and empty rows cost nothing.

A structure with one stray voxel at the other end of the scan has a box as large as the scan, but hardly more rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.jit import kernel
from medseg.metrics.bits import lowest, ones

if TYPE_CHECKING:
    from medseg.metrics.runs import Runs

_ONE, _TOP, _ALL = np.uint64(1), np.uint64(63), np.uint64(0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True, eq=False)
class VoxelSet:
    """Voxels of one structure inside a box.

    Args:
        table: (I, J) int32, which row of `words` lies at (i, j) of the box; 0: no voxel there.
        place: (R, 2) int32, where each row lies.
        words: (R, W) uint64, bit k % 64 of word k // 64 is voxel k of that row. Row 0 is empty.
    """

    table: np.ndarray
    place: np.ndarray
    words: np.ndarray

    def points(self) -> np.ndarray:
        """(N, 3) int32 indices (i, j, k) in the box."""
        return _points(self.place, self.words)

    def edge(self) -> VoxelSet:
        """Its voxels of which one of the 6 neighbours is not in the set; outside the box nothing is."""
        return VoxelSet(self.table, self.place, _edge(self.table, self.place, self.words))


def voxel_sets(pred: Runs, ref: Runs, values: tuple[int, ...]) -> tuple[VoxelSet, VoxelSet]:
    """A structure in prediction and reference, in the box around both."""
    found = [pred.of(values), ref.of(values)]
    box = np.array([[np.iinfo(np.int64).max, 0]] * 3)
    for row, start, stop in found:
        _enclose(row, start, stop, pred.width, box)
    if not found[0][0].size and not found[1][0].size:
        box[:] = 0
    a, b = (_filled(*one, pred.width, box) for one in found)
    return VoxelSet(*a), VoxelSet(*b)


def common(one: VoxelSet, other: VoxelSet) -> int:
    """How many voxels two sets in one box share."""
    return _common(one.place, one.words, other.table, other.words)


@kernel
def _enclose(row, start, stop, width, box):
    for n in range(len(row)):
        i, j = row[n] // width, row[n] % width
        box[0, 0], box[0, 1] = min(box[0, 0], i), max(box[0, 1], i + 1)
        box[1, 0], box[1, 1] = min(box[1, 0], j), max(box[1, 1], j + 1)
        box[2, 0], box[2, 1] = min(box[2, 0], start[n]), max(box[2, 1], stop[n])


@kernel
def _filled(row, start, stop, width, box):
    """`table`, `place` and `words`; one bit is left free behind the last voxel for the corners of `surfels`."""
    table = np.zeros((box[0, 1] - box[0, 0], box[1, 1] - box[1, 0]), np.int32)
    rows = 0
    for n in range(len(row)):
        i, j = row[n] // width - box[0, 0], row[n] % width - box[1, 0]
        if not table[i, j]:
            rows += 1
            table[i, j] = rows
    place = np.zeros((rows + 1, 2), np.int32)
    words = np.zeros((rows + 1, (box[2, 1] - box[2, 0]) // 64 + 1), np.uint64)
    for n in range(len(row)):
        i, j = row[n] // width - box[0, 0], row[n] % width - box[1, 0]
        r = table[i, j]
        place[r, 0], place[r, 1] = i, j
        first, last = start[n] - box[2, 0], stop[n] - box[2, 0] - 1
        for w in range(first >> 6, (last >> 6) + 1):
            bits = _ALL
            if w == first >> 6:
                bits &= _ALL << np.uint64(first & 63)
            if w == last >> 6:
                bits &= _ALL >> np.uint64(63 - (last & 63))
            words[r, w] |= bits
    return table, place, words


@kernel
def row_at(table, i, j):
    """The row at (i, j); 0, which is empty, outside the box."""
    if i < 0 or j < 0 or i >= table.shape[0] or j >= table.shape[1]:
        return np.int32(0)
    return table[i, j]


@kernel
def from_below(words, r, w):
    """The row moved by one: bit k shows voxel k - 1."""
    return words[r, w] << _ONE | (words[r, w - 1] >> _TOP if w else np.uint64(0))


@kernel
def from_above(words, r, w):
    """The row moved by one: bit k shows voxel k + 1."""
    return words[r, w] >> _ONE | (words[r, w + 1] << _TOP if w + 1 < words.shape[1] else np.uint64(0))


@kernel
def _edge(table, place, words):
    out = np.zeros_like(words)
    for r in range(1, len(words)):
        i, j = place[r]
        a, b = row_at(table, i - 1, j), row_at(table, i + 1, j)
        c, d = row_at(table, i, j - 1), row_at(table, i, j + 1)
        for w in range(words.shape[1]):
            inner = from_below(words, r, w) & from_above(words, r, w)
            inner &= words[a, w] & words[b, w] & words[c, w] & words[d, w]
            out[r, w] = words[r, w] & ~inner
    return out


@kernel
def _points(place, words):
    n = 0
    for r in range(len(words)):
        for w in range(words.shape[1]):
            n += ones(words[r, w])
    out = np.empty((n, 3), np.int32)
    n = 0
    for r in range(len(words)):
        for w in range(words.shape[1]):
            bits = words[r, w]
            while bits:
                out[n, 0], out[n, 1], out[n, 2] = place[r, 0], place[r, 1], 64 * w + lowest(bits)
                bits &= bits - _ONE
                n += 1
    return out


@kernel
def _common(place, words, table, others):
    n = 0
    for r in range(1, len(words)):
        other = table[place[r, 0], place[r, 1]]
        for w in range(words.shape[1]):
            n += ones(words[r, w] & others[other, w])
    return n
