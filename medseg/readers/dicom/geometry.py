"""Where a stack of planes lies: regular, tilted, gapped, irregular or a single slice, and its affine.

A stack is judged by how far its slices lie from the straight, even line through its first and last one; no
tag but position, orientation and pixel spacing is believed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.geometry import flip_ras_lps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.readers.dicom.planes import Plane

#: Two slices nearer than this along the normal lie at one place, mm.
SAME_PLACE_MM = 0.01
#: A slice may lie this share of a step off the even line.
OFF_LINE_STEPS = 0.1
#: Or this far where that is at most twice the share: positions rounded to 0.1 mm (0.625 mm steps to 0.6, 0.7) are
#: off by 0.05 mm, and so is the line through the first and last of them.
ROUNDING_MM = 0.101
#: A stack that leans more than this from the normal of its slices is tilted (gantry) and gets resampled; less is
#: rounding, and the affine keeps it exactly.
TILT_DEG = 0.05
#: A slice this near to a place of the lattice, in steps, is taken as it is.
WHOLE_STEP = 1e-3


@dataclass(frozen=True, eq=False)
class StackGeometry:
    """The shape of a stack of planes in space.

    Args:
        kind: 'regular', 'tilted', 'gapped', 'irregular', 'scattered' or 'single-slice'.
        affine_lps: (4, 4) (column, row, slice) index -> LPS mm; where gapped or irregular, of the even lattice that
            begins at the first slice with the usual step; None where scattered.
        tilt_deg: angle between the stacking direction and the normal of the slices.
        off_line_mm: how far the worst slice lies from its place on the even line.
        index: for each slice its place on the lattice in steps: 0, 1, 2 ... where regular.
        gap: of the worst uneven step the index of the slice before it, None where there is none.
    """

    kind: str
    affine_lps: np.ndarray | None
    tilt_deg: float = 0.0
    off_line_mm: float = 0.0
    index: tuple[float, ...] = ()
    gap: int | None = None

    @property
    def affine_ras(self) -> np.ndarray:
        """(4, 4) (column, row, slice) index -> RAS mm."""
        if self.affine_lps is None:
            msg = "scattered planes have no affine"
            raise ValueError(msg)
        return flip_ras_lps(self.affine_lps)

    @property
    def uneven(self) -> bool:
        """Whether slices are missing or unevenly placed along their line."""
        return self.kind in ("gapped", "irregular")

    @property
    def sheared(self) -> bool:
        """Whether reading resamples it to right angles."""
        return self.kind != "single-slice" and self.tilt_deg > TILT_DEG

    @property
    def slices(self) -> int:
        """Slices of the even lattice, those that are missing included."""
        return round(self.index[-1]) + 1


def heights(planes: Sequence[Plane]) -> np.ndarray:
    """(n,) mm along the first plane's normal."""
    return np.array([p.position for p in planes]) @ planes[0].normal


def sort_planes(planes: Sequence[Plane]) -> list[Plane]:
    """Planes in order of position along their normal; ties in the order of their files."""
    order = np.argsort(heights(planes), kind="stable")
    return [planes[i] for i in order]


def places(planes: Sequence[Plane]) -> list[list[Plane]]:
    """Sorted planes grouped by place: a list for each distinct place along the normal."""
    groups: list[list[Plane]] = []
    last = -np.inf
    for plane, height in zip(planes, heights(planes), strict=True):
        if height - last > SAME_PLACE_MM:
            groups.append([])
            last = height
        groups[-1].append(plane)
    return groups


def classify(planes: Sequence[Plane]) -> StackGeometry:
    """The geometry of planes that are sorted and at distinct places.

    Example: slices at z = 0, 5, 10, 20 mm are 'gapped' after slice 2, lattice places 0, 1, 2, 4.
    """
    first = planes[0]
    if len(planes) == 1:
        thickness = first.step or first.thickness or 0
        return StackGeometry(
            "single-slice", _affine(first, first.normal * (thickness if thickness > 0 else 1.0)), index=(0,)
        )
    positions = np.array([p.position for p in planes], np.float64)
    count = len(planes) - 1
    step = (positions[-1] - positions[0]) / count
    off = np.linalg.norm(positions - (positions[0] + np.arange(count + 1)[:, None] * step), axis=1)
    normal = first.normal
    steps = np.diff(positions @ normal)
    usual = np.sort(steps)[(len(steps) - 1) // 2]  # the lower median: of one step and a gap the step
    usual = float(steps[np.abs(steps - usual) < 0.3 * usual].mean())  # rounded positions: their mean is nearer
    along = float(step @ normal)
    if off.max() <= max(OFF_LINE_STEPS * along, min(ROUNDING_MM, 2 * OFF_LINE_STEPS * along)):
        tilt = float(np.degrees(np.arctan2(np.linalg.norm(step - along * normal), along)))
        kind = "tilted" if tilt > TILT_DEG else "regular"
        places = tuple(range(count + 1))
        return StackGeometry(kind, _affine(first, step), tilt, float(off.max()), places)
    return _uneven(first, positions, normal, usual)


def _uneven(first: Plane, positions: np.ndarray, normal: np.ndarray, usual: float) -> StackGeometry:
    # The line through the slices: the stacking direction does not depend on how even the steps are.
    total = positions[-1] - positions[0]
    direction = total / (total @ normal)
    heights = (positions - positions[0]) @ normal
    aside = np.linalg.norm(positions - positions[0] - heights[:, None] * direction, axis=1)
    if aside.max() > max(OFF_LINE_STEPS * usual, SAME_PLACE_MM):
        return StackGeometry("scattered", None, off_line_mm=float(aside.max()), gap=int(np.argmax(np.diff(aside) ** 2)))
    steps = np.diff(heights)
    index = heights / usual
    gapped = np.abs(index - np.round(index)).max() <= OFF_LINE_STEPS and len(set(np.round(index))) == len(index)
    if gapped:
        index = np.round(index)
    else:  # a lattice that also ends at the last slice
        even = heights[-1] / np.ceil(heights[-1] / usual - WHOLE_STEP)
        index, usual = heights / even, even
    tilt = float(np.degrees(np.arctan2(np.linalg.norm(direction - normal), 1.0)))
    worst = int(np.argmax(np.abs(steps - usual)))
    kind = "gapped" if gapped else "irregular"
    places = tuple(float(i) for i in index)
    return StackGeometry(kind, _affine(first, direction * usual), tilt, 0.0, places, worst)


def _affine(first: Plane, step: np.ndarray) -> np.ndarray:
    r, c = first.axes
    row_mm, col_mm = first.spacing or (1.0, 1.0)
    affine = np.eye(4)
    # DICOM's PixelSpacing is (between rows, between columns): the column index walks along r by the second.
    affine[:3, 0], affine[:3, 1], affine[:3, 2], affine[:3, 3] = r * col_mm, c * row_mm, step, first.position
    return affine
