"""A scene: solids placed one after the other so that no two share a voxel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from phantoms.solids import rasterise, window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from phantoms.solids import Solid

#: Shares of a solid that lie in the volume: all of it, or what a face of the volume leaves.
WHOLE, CUT = (1.0, 1.0), (0.25, 0.75)
LEAST_VOXELS = 8
_CUBE = np.ones((3, 3, 3), bool)


class Scene:
    """What has been placed so far.

    Args:
        shape: voxels (D, H, W).
        spacing_mm: (3,) voxel size.
        gap: voxels of background that stay between two instances; 0 lets them touch.
    """

    def __init__(self, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], gap: int) -> None:
        self.shape = shape
        self.spacing_mm = np.array(spacing_mm)
        self.gap = gap
        self.instances = np.zeros(shape, np.uint16)
        self.classes: dict[int, int] = {}
        self._blocked = np.zeros(shape, bool)

    @property
    def field_mm(self) -> np.ndarray:
        """(3,) edge to edge size of the volume."""
        return np.array(self.shape) * self.spacing_mm

    def fits(self, masks: Iterable[tuple[np.ndarray, np.ndarray]]) -> bool:
        """Whether none of the masks, each given with its first voxel, comes too near to what is there."""
        return not any((self._blocked[here] & part).any() for here, part in (window(*m, self.shape) for m in masks))

    def contact(self, low: np.ndarray, mask: np.ndarray) -> int:
        """How many voxels of other instances the mask touches."""
        here, part = window(low - 1, ndimage.binary_dilation(np.pad(mask, 1), _CUBE), self.shape)
        return int((self.instances[here][part] > 0).sum())

    def add(self, low: np.ndarray, mask: np.ndarray, kind: int) -> int:
        """Place a mask as a new instance of class `kind` -> its id."""
        number = len(self.classes) + 1
        here, part = window(low, mask, self.shape)
        self.instances[here][part] = number
        self.classes[number] = kind
        around = np.pad(mask, self.gap)
        if self.gap:
            around = ndimage.binary_dilation(around, _CUBE, self.gap)
        here, part = window(low - self.gap, around, self.shape)
        self._blocked[here] |= part
        return number


def inside(rng: np.random.Generator, solid: Solid, field_mm: np.ndarray) -> np.ndarray | None:
    """A centre, mm, from which the solid lies wholly in the volume; None when it is too large."""
    room = field_mm - 2 * solid.extent_mm
    return None if (room < 0).any() else solid.extent_mm + rng.random(3) * room


def on_voxels(rng: np.random.Generator, solid: Solid, field_mm: np.ndarray) -> np.ndarray | None:
    """As `inside`, for unturned solids with sides of whole voxels of 1 mm: their faces lie between voxels."""
    room = (field_mm - 2 * solid.half_mm).astype(int)
    return None if (room < 0).any() else rng.integers(0, room + 1) + solid.half_mm


def cut(rng: np.random.Generator, solid: Solid, field_mm: np.ndarray) -> np.ndarray:
    """A centre, mm, from which the solid is cut by a face of the volume: about a half is left."""
    centre = rng.random(3) * field_mm
    axis = rng.integers(3)
    depth = rng.uniform(-0.35, 0.35) * solid.extent_mm[axis]
    centre[axis] = depth if rng.random() < 0.5 else field_mm[axis] - depth
    return centre


def fill(
    rng: np.random.Generator,
    scene: Scene,
    draw: Callable[[], tuple[Solid, int]],
    count: int,
    *,
    where: Callable = inside,
    seen: tuple[float, float] = WHOLE,
    tries: int = 60,
    pack: int = 1,
) -> None:
    """Place up to `count` solids; where one finds no room after `tries` places, it is left out.

    Args:
        rng: numpy's generator.
        scene: what is there already.
        draw: () -> (solid, class), called for every try.
        count: how many are wanted.
        where: (rng, solid, field_mm) -> centre or None, such as `inside` or `cut`.
        seen: least and greatest share of a solid that lies in the volume.
        tries: places tried for each.
        pack: of so many places that fit, the one with the most contact to others is taken.
    """
    for _ in range(count):
        best, found = None, 0
        for _ in range(tries):
            solid, kind = draw()
            centre = where(rng, solid, scene.field_mm)
            if centre is None:
                continue
            low, mask = rasterise(solid, centre, scene.spacing_mm)
            voxels = window(low, mask, scene.shape)[1].sum()
            share = voxels / max(mask.sum(), 1)
            if voxels < LEAST_VOXELS or not seen[0] <= share <= seen[1] or not scene.fits([(low, mask)]):
                continue
            touched = scene.contact(low, mask) if pack > 1 else 0
            if best is None or touched > best[0]:
                best = (touched, low, mask, kind)
            found += 1
            if found == pack:
                break
        if best is not None:
            scene.add(*best[1:])
