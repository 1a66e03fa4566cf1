"""Solids in millimetres, and which voxels they fill.

A voxel belongs to a solid when its centre lies in it. The volume's corner is 0 mm, so voxel i is centred at
(i + 0.5) * spacing. Worked example: a cuboid with half sides of 2 mm centred at 5 mm, spacing 1 mm, fills voxels
3, 4, 5 and 6 of every axis (centres 3.5 to 6.5 mm), which is the box [3, 7).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KINDS = ("ellipsoid", "cuboid", "tube", "channelled")


@dataclass(frozen=True, eq=False)
class Solid:
    """A body centred at 0.

    Args:
        kind: 'ellipsoid', 'cuboid', 'tube' (an elliptic cylinder along its first axis, hollow) or 'channelled'
            (a cuboid with a square channel along its first axis).
        half_mm: (3,) half of its size along its own axes.
        turn: (3, 3) rotation; column n is its own axis n in the volume.
        bore: inner size of a tube or channel as a share of the outer one.
    """

    kind: str
    half_mm: np.ndarray
    turn: np.ndarray
    bore: float = 0.0

    @property
    def extent_mm(self) -> np.ndarray:
        """(3,) half of its size along the volume's axes."""
        arms = self.turn * self.half_mm
        if self.kind == "ellipsoid":
            return np.sqrt((arms**2).sum(1))
        if self.kind == "tube":
            return np.abs(arms[:, 0]) + np.sqrt((arms[:, 1:] ** 2).sum(1))
        return np.abs(arms).sum(1)

    def holds(self, points_mm: np.ndarray) -> np.ndarray:
        """(..., 3) points from its centre -> (...) whether they lie in it."""
        own = np.abs(points_mm @ self.turn)
        part = own / self.half_mm
        if self.kind == "ellipsoid":
            return (part**2).sum(-1) <= 1
        if self.kind == "tube":
            radius = (part[..., 1:] ** 2).sum(-1)
            return (part[..., 0] <= 1) & (radius <= 1) & (radius > self.bore**2)
        inside = (own <= self.half_mm).all(-1)
        if self.kind == "channelled":
            inside &= ~(own[..., 1:] < self.bore * self.half_mm[1:]).all(-1)
        return inside


def rasterise(solid: Solid, centre_mm: np.ndarray, spacing_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The voxels of a solid on an endless lattice.

    Args:
        solid: what.
        centre_mm: (3,) where.
        spacing_mm: (3,) voxel size.

    Returns:
        (3,) index of the first voxel, and the mask (d, h, w) from there, tight but for rounding.
    """
    low = np.floor((centre_mm - solid.extent_mm) / spacing_mm).astype(int)
    high = np.ceil((centre_mm + solid.extent_mm) / spacing_mm).astype(int)
    axes = [(np.arange(a, b) + 0.5) * s - c for a, b, s, c in zip(low, high, spacing_mm, centre_mm, strict=True)]
    return low, solid.holds(np.stack(np.meshgrid(*axes, indexing="ij"), -1))


def window(low: np.ndarray, mask: np.ndarray, shape: tuple[int, ...]) -> tuple[tuple[slice, ...], np.ndarray]:
    """The part of a mask that lies in a volume: where in the volume, and the mask there (maybe empty)."""
    first = np.clip(low, 0, shape)
    last = np.clip(low + mask.shape, 0, shape)
    here = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    return here, mask[tuple(slice(a, b) for a, b in zip(first - low, last - low, strict=True))]


def any_turn(rng: np.random.Generator) -> np.ndarray:
    """A rotation, all equally likely (QR of a Gaussian matrix, Stewart 1980)."""
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))
