"""Which pieces are one instance: a union-find over pairs that agree where both their tiles could see.

Two pieces are linked when in the common part of their tiles
- their masks have an IoU of at least `LINK_IOU`, or
- one is cut off by its tile's face and lies within the other to `LINK_IOM` (what a tile sees of an instance beside its
  face is often less than all of it).
Links are taken from the best down, those of equal classes first. A link that would put two pieces of one tile together
is refused, since the network told them apart there; unless both are cut off: a bent vessel may enter a tile twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.inferers.instances.pieces import common

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.inferers.instances.pieces import Common, Piece
    from medseg.inferers.instances.tiles import View

LINK_IOU = 0.5
LINK_IOM = 0.8
# What two pieces have in common must be at least this share of the smaller one, as a whole: two instances that touch
# share a few noisy voxels where the corners of two tiles meet.
LINK_SHARE = 0.03


def groups_of(pieces: Sequence[Piece], views: Sequence[View]) -> list[list[int]]:
    """Indices of the pieces of each instance, ascending, groups by their first piece."""
    parent = list(range(len(pieces)))
    members = [[i] for i in parent]
    for i, j in _links(pieces, views):
        a, b = _root(parent, i), _root(parent, j)
        if a != b and all(_may_be_one(pieces[x], pieces[y]) for x in members[a] for y in members[b]):
            a, b = min(a, b), max(a, b)
            parent[b] = a
            members[a] += members[b]
            members[b] = []
    return [sorted(group) for group in members if group]


def touching(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(P, 2) pairs i < j of N blocks low <= x < high, (N, 3) each, that have a voxel in common."""
    found = [np.zeros((0, 2), np.int64)]
    for i in range(len(low) - 1):
        meet = ((low[i + 1 :] < high[i]) & (low[i] < high[i + 1 :])).all(1)
        others = np.flatnonzero(meet) + i + 1
        found.append(np.stack([np.full(len(others), i), others], 1))
    return np.concatenate(found)


def _links(pieces: Sequence[Piece], views: Sequence[View]) -> list[tuple[int, int]]:
    """Pairs that agree, the best first."""
    if not pieces:
        return []
    of = np.array([piece.view for piece in pieces])
    low, high = np.stack([p.low for p in pieces]), np.stack([p.high for p in pieces])
    start, stop = np.array([view.tile.low for view in views]), np.array([view.tile.high for view in views])
    sizes = [np.count_nonzero(piece.mask) for piece in pieces]
    pairs = touching(low, high)
    first, second = pairs[of[pairs[:, 0]] != of[pairs[:, 1]]].T
    start = np.maximum(start[of[first]], start[of[second]])
    stop = np.minimum(stop[of[first]], stop[of[second]])
    meet = (
        np.maximum(np.maximum(low[first], low[second]), start) < np.minimum(np.minimum(high[first], high[second]), stop)
    ).all(1)
    found = []
    for n in np.flatnonzero(meet).tolist():
        i, j = int(first[n]), int(second[n])
        seen = common(pieces[i], pieces[j], start[n], stop[n])
        if seen.both >= max(1, LINK_SHARE * min(sizes[i], sizes[j])) and _agree(pieces[i], pieces[j], seen):
            found.append((pieces[i].label != pieces[j].label, -seen.iou, i, j))
    return [(i, j) for *_, i, j in sorted(found)]


def _agree(a: Piece, b: Piece, seen: Common) -> bool:
    within = a if seen.first <= seen.second else b
    return seen.iou >= LINK_IOU or (within.cut and a.label == b.label and seen.iom >= LINK_IOM)


def _may_be_one(a: Piece, b: Piece) -> bool:
    return a.view != b.view or (a.cut and b.cut and a.label == b.label)


def _root(parent: list[int], i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i
