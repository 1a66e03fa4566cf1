r"""A volume's grid as the frames of a multi-frame object: which axis is what, and where each frame lies.

DICOM walks a frame along its columns first: the direction of increasing column index is the first half of
ImageOrientationPatient, and PixelSpacing is (between rows, between columns). Where the volume lies on its sources'
own grid, frames get the sources' orientation, whatever the order and direction of the volume's axes.

Worked example: an axial LPS volume of spacing (0.7, 0.9, 2.5) mm along (I, J, K): frame k is array[:, :, k].T with
ImageOrientationPatient 1\0\0\0\1\0 and PixelSpacing 0.9\0.7, at the LPS place of voxel (0, 0, k).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import GeometryError
from medseg.geometry import Grid, Reorientation, flip_ras_lps

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.writers.dicom.sources import SourceFrame, Sources

#: The cosine from which two directions count as one: about half a degree.
_ALIGNED = 1 - 5e-5
#: A stack that leans more than this from its frames' normal, or frames that are no rectangles, are refused. The
#: reader resamples from 0.05 degrees of tilt on, so its volumes never are.
SHEAR_DEG = 0.06
#: A frame comes from the source image that lies this share of a step from it, or less. The reader takes stacks whose
#: slices lie off their even line by at most as much.
_NEAR_STEPS = 0.11


@dataclass(frozen=True, eq=False)
class FrameGrid:
    """Where the frames of a derived object lie.

    Args:
        grid: (columns, rows, slices), RAS.
        turn: from the volume's axes to (column, row, slice).
        positions: (slices, 3) LPS mm of each frame's first pixel.
        axes: (2, 3) unit directions of increasing column index and of increasing row index, LPS.
    """

    grid: Grid
    turn: Reorientation
    positions: np.ndarray
    axes: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns."""
        return self.grid.shape[1], self.grid.shape[0]

    @property
    def spacing(self) -> tuple[float, float]:
        """Mm between rows, then between columns (PixelSpacing)."""
        return self.grid.spacing_mm[1], self.grid.spacing_mm[0]

    @property
    def step_mm(self) -> float:
        """Distance of neighbouring frames along their normal, mm."""
        return float(abs(np.cross(*self.axes) @ flip_ras_lps(self.grid.affine)[:3, 2]))

    def frames(self, array: np.ndarray) -> np.ndarray:
        """(I, J, K) -> a view (slices, rows, columns)."""
        return self.turn.apply(array).transpose(2, 1, 0)

    def nearest(self, position: np.ndarray) -> int:
        """The frame whose first pixel lies nearest to an LPS position."""
        return int(np.argmin(((self.positions - position) ** 2).sum(axis=1)))

    def corners_mm(self, index: int) -> np.ndarray:
        """(4, 3) LPS mm of the corner pixels of a frame."""
        return frame_corners(self.positions[index], self.axes, self.spacing, self.shape)


def frame_corners(
    position: np.ndarray, axes: np.ndarray, spacing: tuple[float, float], shape: tuple[int, int]
) -> np.ndarray:
    """(4, 3) LPS mm of a frame's corner pixels from what DICOM says of it (spacing and shape: rows first)."""
    right, down = axes[0] * spacing[1] * (shape[1] - 1), axes[1] * spacing[0] * (shape[0] - 1)
    return position + np.array([np.zeros(3), right, down, right + down])


def frame_grid(grid: Grid, sources: Sources, *, file: Path | None = None) -> FrameGrid:
    """The frames of a volume on `grid`, turned to the orientation of its sources where they are parallel to it.

    Raises:
        GeometryError: MS-D405 the grid is sheared, which frames cannot be.
    """
    if grid.shear_deg > SHEAR_DEG:
        raise GeometryError(
            "MS-D405",
            f"the axes of this grid lean by {grid.shear_deg:.2f} degrees: DICOM frames are rectangles, stacked upright",
            file=file,
            mend="write the results on a grid with right angles (medseg's readers resample tilted scans to one)",
        )
    turn = _turn(grid, sources.frames[0] if sources.frames else None)
    turned = turn.apply_grid(grid)
    lps = flip_ras_lps(turned.affine)
    axes = (lps[:3, :2] / np.linalg.norm(lps[:3, :2], axis=0)).T
    positions = lps[:3, 3] + np.arange(turned.shape[2])[:, None] * lps[:3, 2]
    return FrameGrid(turned, turn, positions, axes)


def _turn(grid: Grid, source: SourceFrame | None) -> Reorientation:
    lps = flip_ras_lps(grid.affine)[:3, :3]
    unit = lps / np.linalg.norm(lps, axis=0)
    if source is not None:
        cosines = np.array([*source.axes, np.cross(*source.axes)]) @ unit
        order = np.abs(cosines).argmax(axis=1)
        if sorted(order) == [0, 1, 2] and np.abs(cosines).max(axis=1).min() > _ALIGNED:
            i, j, k = (int(a) for a in order)
            fi, fj, fk = (bool(cosines[n, a] < 0) for n, a in enumerate(order))
            return Reorientation((i, j, k), (fi, fj, fk))
    # The volume's own planes, stacked along row direction x column direction.
    return Reorientation((0, 1, 2), (False, False, bool(np.linalg.det(lps) < 0)))


def origins(frames: FrameGrid, sources: Sources) -> list[list[SourceFrame]]:
    """For each frame the source images that show the same pixels; [] for all where the volume was resampled."""
    fits = [s for s in sources.frames if _same_plane(frames, s)]
    if not fits:
        return [[] for _ in frames.positions]
    places = np.array([s.position for s in fits])
    near = _NEAR_STEPS * frames.step_mm
    return [
        [fits[n] for n in np.flatnonzero(np.linalg.norm(places - position, axis=1) <= near)]
        for position in frames.positions
    ]


def _same_plane(frames: FrameGrid, source: SourceFrame) -> bool:
    return (
        source.shape == frames.shape
        and bool(((source.axes * frames.axes).sum(axis=1) > _ALIGNED).all())
        and np.allclose(source.spacing, frames.spacing, rtol=1e-3, atol=0)
    )
