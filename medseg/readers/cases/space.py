"""How two volumes lie to each other: turned by right angles, apart, overlapping."""

from __future__ import annotations

import numpy as np

from medseg.geometry import Grid, Reorientation

#: Axes count as turned by right angles when their ends differ by less than this, mm.
_TURN_MM = 0.05


def turn_onto(grid: Grid, like: Grid) -> Reorientation | None:
    """The permutation and flips that give `grid` the axes and spacing of `like`; None when none does."""
    steps = np.linalg.solve(like.affine[:3, :3], grid.affine[:3, :3])
    whole = np.rint(steps)
    if not (np.abs(whole).sum(axis=0) == 1).all() or not (np.abs(whole).sum(axis=1) == 1).all():
        return None
    off = like.affine[:3, :3] @ (steps - whole) * np.array(grid.shape)
    if np.linalg.norm(off, axis=0).max() > _TURN_MM:
        return None
    i, j, k = (int(np.argmax(np.abs(whole[axis]))) for axis in range(3))
    return Reorientation((i, j, k), (bool(whole[0, i] < 0), bool(whole[1, j] < 0), bool(whole[2, k] < 0)))


def overlap(reference: Grid, other: Grid) -> float:
    """Share of the reference's volume that lies within the other's, 0 to 1, from 40 samples along each axis."""
    ticks = [(np.arange(40) + 0.5) / 40 * n - 0.5 for n in reference.shape]
    points = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1).reshape(-1, 3)
    index = other.to_index(reference.to_world(points))
    inside = (index >= -0.5).all(axis=1) & (index <= np.array(other.shape) - 0.5).all(axis=1)
    return float(inside.mean())


def centre_distance_mm(a: Grid, b: Grid) -> float:
    """Distance between the middles of two grids, mm."""
    middle = [g.to_world((np.array(g.shape) - 1) / 2) for g in (a, b)]
    return float(np.linalg.norm(middle[0] - middle[1]))
