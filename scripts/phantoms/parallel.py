"""Rows of parallel, elongated ellipsoids at 45 degrees: their boxes overlap by half, their voxels not at all.

Ribs, vessels and muscle fibres lie so, and suppression by box IoU takes every other one for a duplicate. For
ellipsoids with half axes L, s, s along (1, 1, 0) and d apart, the box of each has half side
h = sqrt((L^2 + s^2) / 2) in the plane, and neighbours overlap by q = (1 - d / (sqrt(2) * 2 h))^2 of it: box IoU is
q / (2 - q). Worked example: L = 12, s = 2, d = 5: h = 8.6, q = 0.63, IoU 0.46.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from phantoms.solids import Solid, rasterise, window

if TYPE_CHECKING:
    from phantoms.scene import Scene

#: Box IoU of neighbours in a row.
LOWEST, HIGHEST = 0.4, 0.6


def add_row(rng: np.random.Generator, scene: Scene, count: int, kind: int, tries: int = 200) -> int:
    """Place a row of 2 to `count` ellipsoids of class `kind` -> how many (0: no room was found)."""
    for _ in range(tries):
        row = _draw(rng, scene, int(rng.integers(2, max(count, 2) + 1)))
        if row is not None and scene.fits(row):
            for low, mask in row:
                scene.add(low, mask, kind)
            return len(row)
    return 0


def _draw(rng: np.random.Generator, scene: Scene, count: int) -> list[tuple[np.ndarray, np.ndarray]] | None:
    """Masks of a row inside the volume, disjoint and with box IoU in the range; None when this draw is not so."""
    plane = rng.permutation(3)  # along, across, and the axis that the row does not turn about
    along, across = np.zeros(3), np.zeros(3)
    along[plane[:2]] = 1 / np.sqrt(2), rng.choice([-1, 1]) / np.sqrt(2)
    across[plane[:2]] = along[plane[0]], -along[plane[1]]
    thick = rng.uniform(1.6, 2.4)
    half = np.array([thick * rng.uniform(5, 9), thick, thick])
    solid = Solid("ellipsoid", half, np.stack([along, across, np.cross(along, across)], 1))
    step = 2 * thick + rng.uniform(0.6, 1.6)
    reach = solid.extent_mm + (count - 1) / 2 * step * np.abs(across)
    room = scene.field_mm - 2 * reach
    if (room < 0).any():
        return None
    middle = reach + rng.random(3) * room
    places = middle + (np.arange(count)[:, None] - (count - 1) / 2) * step * across
    row = [rasterise(solid, place, scene.spacing_mm) for place in places]
    return row if _as_meant(row, scene.shape) else None


def _as_meant(row: list[tuple[np.ndarray, np.ndarray]], shape: tuple[int, int, int]) -> bool:
    taken = np.zeros(shape, bool)
    boxes = []
    for low, mask in row:
        here, part = window(low, mask, shape)
        if part.sum() < mask.sum() or (taken[here] & part).any():
            return False
        taken[here] |= part
        filled = np.argwhere(mask)
        boxes.append((low + filled.min(0), low + filled.max(0) + 1))
    return all(LOWEST <= _iou(a, b) <= HIGHEST for a, b in itertools.pairwise(boxes))


def _iou(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> float:
    shared = np.prod(np.maximum(np.minimum(a[1], b[1]) - np.maximum(a[0], b[0]), 0))
    return float(shared / (np.prod(a[1] - a[0]) + np.prod(b[1] - b[0]) - shared))
