"""What every format needs to say about a grid: the missing orientation that a user supplies, and sheared axes."""

from __future__ import annotations

import numpy as np

from medseg.geometry import Grid, reorientation
from medseg.volume import Decision

#: Departures of an affine below this at every corner are rounding, not geometry.
NEGLIGIBLE_MM = 0.01


def assumed_affine(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], axcodes: str) -> np.ndarray:
    """The affine of a grid whose array axes point to `axcodes`, its middle at 0 mm (its place is not known).

    Example: shape (3, 3, 3), spacing 2 mm, 'LAS' -> columns (-2, 0, 0), (0, 2, 0), (0, 0, 2), origin (2, -2, -2).
    """
    # `turn` takes the axcodes of an RAS array's axes to the wanted ones; its flips and order are all we need.
    turn = reorientation(Grid((2, 2, 2), np.eye(4)), axcodes)
    affine = np.eye(4)
    affine[:3, :3] = 0.0
    for axis, (world, flip) in enumerate(zip(turn.order, turn.flips, strict=True)):
        affine[world, axis] = -spacing_mm[axis] if flip else spacing_mm[axis]
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def shear_decision(grid: Grid, code: str) -> tuple[Decision, ...]:
    """A decision when the axes are not at right angles (gantry tilt), by more than rounding."""
    spacing = np.array(grid.spacing_mm)
    u, _, vt = np.linalg.svd(grid.affine[:3, :3] / spacing)
    square = (u @ vt) * spacing  # the nearest axes at right angles with the same spacing
    half_extent = (np.array(grid.shape) - 1) / 2
    signs = np.array(np.meshgrid(*[(-1, 1)] * 3)).reshape(3, -1)
    moved = (grid.affine[:3, :3] - square) @ (signs * half_extent[:, None])
    distance = float(np.linalg.norm(moved, axis=0).max())
    if distance <= NEGLIGIBLE_MM:
        return ()
    return (
        Decision(
            code,
            f"the axes are sheared: {grid.shear_deg:.3g} degrees off a right angle ({distance:.3g} mm at the corners), "
            "as a tilted gantry leaves them",
        ),
    )
