"""Where voxels lie: the one place that knows affines, orientations, and RAS against LPS.

Everywhere in medseg an affine is a 4x4 float64 matrix from voxel index (i, j, k) to millimetres in RAS+
(x to the patient's Right, y Anterior, z Superior), the centre of voxel 0 at `affine[:3, 3]`. DICOM, NRRD
and ITK speak LPS: they call `flip_ras_lps` here and nowhere else.

Worked example: a DICOM slice at ImagePositionPatient (-10, 20, 30) lies at RAS (10, -20, 30).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

#: Two grids whose eight corners differ by less than this lie in one space. NIfTI stores float32 affines,
#: whose rounding over a 500 mm field of view is about 3e-5 mm.
SAME_SPACE_MM = 1e-3


@dataclass(frozen=True, eq=False)
class Grid:
    """The lattice of voxel centres of one volume.

    Args:
        shape: voxels along each array axis (I, J, K).
        affine: (4, 4) voxel index -> RAS mm.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            msg = f"an affine is a finite 4x4 matrix, got shape {affine.shape}: {affine.tolist()}"
            raise ValueError(msg)
        if abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            msg = f"this affine has no volume (its axes are zero or parallel): {affine[:3, :3].tolist()}"
            raise ValueError(msg)
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxel centres along each array axis, mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Edge to edge size along each array axis, mm."""
        i, j, k = (n * s for n, s in zip(self.shape, self.spacing_mm, strict=True))
        return i, j, k

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel, mL."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    @cached_property
    def axcodes(self) -> str:
        """The patient direction that each array axis points to most, e.g. 'RAS' or 'LPI'."""
        return "".join("RAS"[w] if s > 0 else "LPI"[w] for w, s in _axes_to_world(self.affine))

    @property
    def corners_mm(self) -> np.ndarray:
        """(8, 3) RAS mm of the corner voxels' centres, first index slowest."""
        index = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape], indexing="ij")).reshape(3, 8).T
        return self.to_world(index)

    @property
    def shear_deg(self) -> float:
        """Largest departure from a right angle between two axes, degrees (gantry tilt makes it > 0)."""
        unit = self.affine[:3, :3] / np.array(self.spacing_mm)
        cosines = np.abs((unit.T @ unit)[np.triu_indices(3, 1)])
        return float(np.degrees(np.arcsin(np.clip(cosines.max(), 0, 1))))

    def to_world(self, index: np.ndarray) -> np.ndarray:
        """(..., 3) voxel indices -> (..., 3) RAS mm."""
        return np.asarray(index, np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_index(self, world_mm: np.ndarray) -> np.ndarray:
        """(..., 3) RAS mm -> (..., 3) continuous voxel indices."""
        inverse = np.linalg.inv(self.affine)
        return np.asarray(world_mm, np.float64) @ inverse[:3, :3].T + inverse[:3, 3]

    def crop(self, start: tuple[int, int, int], stop: tuple[int, int, int]) -> Grid:
        """The grid of `array[start:stop]`; a negative start or a stop past the end pads."""
        affine = self.affine.copy()
        affine[:3, 3] = self.to_world(np.array(start))
        i, j, k = (b - a for a, b in zip(start, stop, strict=True))
        return Grid((i, j, k), affine)


def flip_ras_lps(affine: np.ndarray) -> np.ndarray:
    """RAS affine -> LPS affine, and back: negate the first two world axes."""
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(affine, np.float64)


def _axes_to_world(affine: np.ndarray) -> list[tuple[int, int]]:
    """For each array axis the (world axis, sign) it follows, a one-to-one match of greatest total cosine."""
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    best = max(orders, key=lambda order: sum(abs(cosines[w, a]) for a, w in enumerate(order)))
    return [(w, 1 if cosines[w, a] > 0 else -1) for a, w in enumerate(best)]


@dataclass(frozen=True)
class Reorientation:
    """How to permute and flip array axes so that they point to wanted patient directions.

    `order[n]` is the input axis that becomes output axis n; `flips[n]` says whether output axis n is
    reversed after the permutation.
    """

    order: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def apply(self, array: np.ndarray) -> np.ndarray:
        """A view of (I, J, K) or (C, I, J, K) with its spatial axes permuted, then flipped."""
        lead = array.ndim - 3
        out = array.transpose(*range(lead), *(lead + a for a in self.order))
        return out[(slice(None),) * lead + tuple(slice(None, None, -1 if f else 1) for f in self.flips)]

    def apply_grid(self, grid: Grid) -> Grid:
        """The grid of the array that `apply` returns."""
        i, j, k = (grid.shape[a] for a in self.order)
        affine = grid.affine.copy()
        affine[:3, :3] = grid.affine[:3, list(self.order)]
        for axis, (flip, n) in enumerate(zip(self.flips, (i, j, k), strict=True)):
            if flip:
                affine[:3, 3] += affine[:3, axis] * (n - 1)
                affine[:3, axis] *= -1
        return Grid((i, j, k), affine)

    def inverse(self) -> Reorientation:
        """The reorientation that undoes this one."""
        i, j, k = (self.order.index(a) for a in range(3))
        return Reorientation((i, j, k), (self.flips[i], self.flips[j], self.flips[k]))


def reorientation(grid: Grid, axcodes: str = "RAS") -> Reorientation:
    """The reorientation that makes `grid`'s axes point to `axcodes` (nearest right angles; no resampling)."""
    world = [next((w for w, pair in enumerate(("LR", "PA", "IS")) if c in pair), -1) for c in axcodes]
    if sorted(world) != [0, 1, 2]:
        msg = f"axcodes name each patient axis once, such as 'RAS' or 'LPI', got {axcodes!r}"
        raise ValueError(msg)
    have = _axes_to_world(grid.affine)
    source = [next(a for a, (w, _) in enumerate(have) if w == want) for want in world]
    i, j, k = source
    fi, fj, fk = ((have[a][1] > 0) != (c in "RAS") for a, c in zip(source, axcodes, strict=True))
    return Reorientation((i, j, k), (fi, fj, fk))


def corner_distance_mm(a: Grid, b: Grid) -> float:
    """Largest distance between matching corners of two grids of one shape, mm."""
    return float(np.linalg.norm(a.corners_mm - b.corners_mm, axis=1).max())


def same_space(a: Grid, b: Grid, tolerance_mm: float = SAME_SPACE_MM) -> bool:
    """Whether two grids have one shape and lie within `tolerance_mm` of each other at every corner."""
    return a.shape == b.shape and corner_distance_mm(a, b) <= tolerance_mm


def lattice_offset(a: Grid, b: Grid, tolerance_mm: float = 1e-2) -> tuple[int, int, int] | None:
    """Index in `a` of voxel 0 of `b` if both lie on one lattice (axes, spacing, phase), else None.

    3D Slicer saves segmentations cropped to their extent: such a grid is the image's lattice, shifted.
    """
    offset = a.to_index(b.affine[:3, 3])
    whole = np.round(offset)
    moved = Grid(b.shape, np.block([[a.affine[:3, :3], a.to_world(whole)[:, None]], [np.eye(4)[3:]]]))
    if corner_distance_mm(moved, b) > tolerance_mm:
        return None
    i, j, k = (int(n) for n in whole)
    return i, j, k
