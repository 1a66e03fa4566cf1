"""Where a NIfTI image lies: sform, qform, units, and what to do when they are broken or disagree.

The standard lets a file carry two transforms. medseg takes the sform where it is coded, else the qform, as
nibabel and the standard's method order do, and says so when the other one tells a different place. A coded
transform that is broken is never replaced by a guess. pixdim counts only inside the qform.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import GeometryError
from medseg.geometry import Grid, corner_distance_mm
from medseg.readers.placement import NEGLIGIBLE_MM, assumed_affine, shear_decision
from medseg.volume import Decision

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.readers.nifti_header import NiftiHeader
    from medseg.readers.options import ReadOptions

#: Rounding of the three squared float32 quaternion components that qform stores.
_ROUNDING = 3 * 2.0**-24


def place(header: NiftiHeader, path: Path, options: ReadOptions) -> tuple[np.ndarray, tuple[Decision, ...]]:
    """The (4, 4) affine of a NIfTI image, RAS mm, and what had to be decided.

    Raises:
        GeometryError: MS-N110 no orientation at all, MS-N111 broken sform, MS-N112 broken qform and no sform,
            MS-N113 (strict) sform and qform disagree, MS-N115 no usable spacing.
    """
    shape = header.grid_shape
    decisions = list(_units(header))
    if header.sform_code > 0:
        affine = _sform(header, path)
        decisions += _compare(header, Grid(shape, affine), path, options)
    elif header.qform_code > 0:
        affine = qform(header)
        if affine is None:
            raise GeometryError(
                "MS-N112",
                f"its qform is broken ({_qform_fault(header)}) and it has no sform",
                file=path,
                mend="write the file again from its source, or set a correct sform",
            )
    else:
        affine = _assumed(header, path, options)
        decisions.append(
            Decision("MS-N211", f"no orientation in the file; taken as {options.assume_orientation}, centred at 0 mm")
        )
    decisions += shear_decision(Grid(shape, affine), "MS-N213")
    return affine, tuple(decisions)


def qform(header: NiftiHeader) -> np.ndarray | None:
    """The qform as a (4, 4) affine in RAS mm, None where it is broken (whatever its code)."""
    if _qform_fault(header):
        return None
    b, c, d, *offset = header.quaternion
    a = np.sqrt(max(0.0, 1.0 - (b * b + c * c + d * d)))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    spacing = header.pixdim[1:4] * (1, 1, -1 if header.pixdim[0] < 0 else 1)
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing * header.unit_mm
    affine[:3, 3] = np.array(offset) * header.unit_mm
    return affine


def _qform_fault(header: NiftiHeader) -> str:
    spacing = header.pixdim[1:4]
    if not np.isfinite(header.quaternion).all() or not np.isfinite(spacing).all():
        return "it holds NaN or infinity"
    if (spacing <= 0).any():
        return f"pixdim {_numbers(spacing)} is not positive"
    length = float((header.quaternion[:3] ** 2).sum())
    return f"its quaternion has length {length:.4g}, more than 1" if length > 1 + 1e-4 else ""


def _sform(header: NiftiHeader, path: Path) -> np.ndarray:
    affine = np.vstack([header.sform * header.unit_mm, [0, 0, 0, 1]])
    axes = affine[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    if not np.isfinite(affine).all():
        fault = "it holds NaN or infinity"
    elif (lengths == 0).any() or abs(np.linalg.det(axes / np.where(lengths == 0, 1, lengths))) < 1e-6:
        fault = "an axis is zero or two are parallel"
    elif abs(np.linalg.det(axes)) < 1e-12:
        fault = f"its voxels are {_numbers(lengths)} mm"
    else:
        return affine
    raise GeometryError(
        "MS-N111",
        f"its sform is broken ({fault})",
        file=path,
        mend="write the file again from its source, or set sform_code to 0 if its qform is right",
    )


def _compare(header: NiftiHeader, grid: Grid, path: Path, options: ReadOptions) -> list[Decision]:
    """What the file says besides the sform that was taken."""
    if header.qform_code > 0:
        other = qform(header)
        if other is None:
            return [Decision("MS-N214", f"its qform is broken ({_qform_fault(header)}); its sform was taken")]
        apart = corner_distance_mm(grid, Grid(grid.shape, other))
        if apart <= NEGLIGIBLE_MM + _qform_rounding_mm(header, grid):
            return []
        what = (
            f"sform (code {header.sform_code}) and qform (code {header.qform_code}) "
            f"place the image up to {apart:.4g} mm apart"
        )
        if options.strict:
            raise GeometryError(
                "MS-N113", what, file=path, mend="set both to the right one, or read it without --strict (sform rules)"
            )
        return [Decision("MS-N210", f"{what}; the sform was taken")]
    spacing = np.abs(header.pixdim[1:4]) * header.unit_mm
    apart = float(np.abs((spacing - grid.spacing_mm) * (np.array(grid.shape) - 1)).max())
    if apart <= NEGLIGIBLE_MM and (header.pixdim[1:4] > 0).all():
        return []
    return [
        Decision(
            "MS-N215",
            f"pixdim {_numbers(header.pixdim[1:4])} is not the spacing of its sform, "
            f"{_numbers(grid.spacing_mm)} mm, which was taken",
        )
    ]


def _qform_rounding_mm(header: NiftiHeader, grid: Grid) -> float:
    """How far a correct qform may lie off because it leaves the fourth quaternion component to be worked out."""
    b, c, d = header.quaternion[:3]
    a_squared = max(0.0, 1.0 - float(b * b + c * c + d * d))
    error = min(_ROUNDING / (2 * np.sqrt(a_squared)) if a_squared > 0 else np.inf, np.sqrt(_ROUNDING))
    return float(2 * error * np.linalg.norm(grid.extent_mm))


def _units(header: NiftiHeader) -> list[Decision]:
    unit = {1000.0: "metres", 0.001: "micrometres"}.get(header.unit_mm)
    return [] if unit is None else [Decision("MS-N212", f"lengths in the file are in {unit}; converted to mm")]


def _assumed(header: NiftiHeader, path: Path, options: ReadOptions) -> np.ndarray:
    if options.assume_orientation is None:
        raise GeometryError(
            "MS-N110",
            "it says nothing about orientation (qform_code and sform_code are 0): left and right are unknown",
            file=path,
            mend="if you know it, say so: --assume-orientation RAS (or LPS, LAS, ...)",
        )
    spacing = header.pixdim[1:4] * header.unit_mm
    if not np.isfinite(spacing).all() or (spacing <= 0).any():
        raise GeometryError(
            "MS-N115",
            f"it has no usable spacing (pixdim {_numbers(header.pixdim[1:4])})",
            file=path,
            mend="write the file again from its source, with its spacing",
        )
    i, j, k = (float(s) for s in spacing)
    return assumed_affine(header.grid_shape, (i, j, k), options.assume_orientation)


def _numbers(values) -> str:
    return " x ".join(f"{v:.6g}" for v in values)
