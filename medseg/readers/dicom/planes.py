"""A plane: one image of one instant at one place, whatever kind of file holds it.

A classic file holds one plane, an enhanced multi-frame file one per frame, a Siemens mosaic one per tile
(`multiframe.py`, `mosaic.py`). Everything behind this file speaks of planes only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import GeometryError, InputError
from medseg.readers.dicom.headers import DEFLATED

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from medseg.readers.dicom.headers import Header

#: Values by which planes at one place can belong to different volumes, the most telling first.
SPLIT_KEYS = (
    "image type",
    "echo time",
    "echo number",
    "inversion time",
    "repetition time",
    "flip angle",
    "b-value",
    "gradient direction",
    "contrast agent",
    "kernel",
    "kVp",
    "cardiac phase",
    "temporal position",
    "stack",
    "dimension index",
    "frame reference time",
    "acquisition",
    "acquisition time",
    "content time",
)
#: Those that one volume does not mix, wherever its planes lie.
WHOLE_KEYS = ("image type", "echo time", "b-value", "contrast agent", "kernel", "kVp")


@dataclass(frozen=True, eq=False, slots=True)
class Plane:
    """One 2D image in space.

    Args:
        header: of the file that holds it.
        rows: pixels along the column direction.
        cols: pixels along the row direction.
        position: LPS mm of the centre of its first pixel, None when the file does not say.
        orientation: direction of increasing column index, then of increasing row index (LPS), or None.
        spacing: mm between rows, then between columns (DICOM's order), or None.
        slope, intercept: of the modality rescale, None when absent.
        thickness: SliceThickness in mm.
        step: SpacingBetweenSlices in mm.
        frame: 0-based frame of a multi-frame file.
        tile: 0-based tile of a mosaic, None otherwise.
        tiles_across: tiles along one side of the mosaic.
        keys: values for `SPLIT_KEYS`; absent ones are left out.
    """

    header: Header
    rows: int
    cols: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    slope: float | None = None
    intercept: float | None = None
    thickness: float | None = None
    step: float | None = None
    frame: int = 0
    tile: int | None = None
    tiles_across: int = 1
    keys: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file that holds it."""
        return self.header.path

    @property
    def axes(self) -> np.ndarray:
        """(2, 3) directions of increasing column index and of increasing row index (LPS)."""
        if self.orientation is None:
            msg = "a plane without orientation has no axes"
            raise ValueError(msg)
        return np.array(self.orientation).reshape(2, 3)

    @property
    def normal(self) -> np.ndarray:
        """(3,) unit vector, row direction x column direction (LPS)."""
        n = np.cross(*self.axes)
        return n / np.linalg.norm(n)

    @property
    def place(self) -> str:
        """Where it lies, to name it in a message: 'slice at z=-282.5 mm'."""
        if self.position is None:
            return "a slice"
        axis = int(np.argmax(np.abs(self.normal))) if self.orientation is not None else 2
        # z is the same in LPS and RAS; x and y are told as RAS like everywhere else in medseg.
        value = self.position[axis] * (1 if axis == 2 else -1)
        return f"{'xyz'[axis]}={value:.6g} mm"


def plane_of(header: Header) -> Plane:
    """The plane of a classic single-frame file."""
    return Plane(
        header=header,
        rows=header.get("rows"),
        cols=header.get("cols"),
        position=header.get("position"),
        orientation=header.get("orientation"),
        spacing=header.get("pixel_spacing"),
        slope=first(header.get("slope")),
        intercept=first(header.get("intercept")),
        thickness=first(header.get("slice_thickness")),
        step=first(header.get("spacing_between")),
        keys=header_keys(header),
    )


def header_keys(header: Header) -> dict[str, Any]:
    """The values of `SPLIT_KEYS` that stand at the top level of a file."""
    get = header.get
    kind = (*(get("image_type") or ()), *filter(None, [get("complex_component")]))
    when = get("acquisition_datetime") or (get("acquisition_date") or "") + (get("acquisition_time") or "")
    gradient = tuple(
        get(n) for n in ("gradient", "siemens_gradient", "ge_gradient_x", "ge_gradient_y", "ge_gradient_z")
    )
    keys = {
        "image type": "\\".join(kind),
        "echo time": number(get("echo_time")),
        "echo number": get("echo_number"),
        "inversion time": number(get("inversion_time")),
        "repetition time": number(get("repetition_time")),
        "flip angle": number(get("flip_angle")),
        "b-value": b_value(header),
        "gradient direction": gradient if any(gradient) else None,
        "contrast agent": get("contrast_agent"),
        "kernel": get("kernel"),
        "kVp": number(get("kvp")),
        "cardiac phase": get("cardiac_phase"),
        "temporal position": number(get("temporal_position")),
        "frame reference time": number(get("frame_reference_time")),
        "acquisition": number(get("acquisition_number")),
        "acquisition time": when or None,
        "content time": ((get("content_date") or "") + (get("content_time") or "")) or None,
    }
    return {name: value for name, value in keys.items() if value not in (None, "")}


def b_value(header: Header) -> float | None:
    """Diffusion b-value in s/mm2 from the standard tag or the vendors' own."""
    if (b := header.get("b_value")) is not None:
        return b
    maker = (header.get("manufacturer") or "").upper()
    if "SIEMENS" in maker and (raw := header.get("siemens_b")):
        return number(raw.decode("latin-1"))
    if "PHILIPS" in maker and (raw := header.get("philips_b")):
        return float(np.frombuffer(raw[:4], "<f4")[0]) if len(raw) == 4 else number(raw.decode("latin-1"))
    if maker.startswith("GE") and (raw := header.get("ge_b")):
        b = number(raw.decode("latin-1").split("\\")[0])
        return None if b is None else b % 100000  # GE adds 1e9 as a flag
    return None


def number(text: str | None) -> float | None:
    """The first number of a value, None when there is none."""
    try:
        return None if text is None else float(text.split("\\")[0].strip(" \0"))
    except ValueError:
        return None


def first(values: tuple[float, ...] | None) -> float | None:
    """The first of several values, None when there are none."""
    return values[0] if values else None


def check_plane(plane: Plane) -> None:
    """Refuse a plane whose place, size or grey values cannot be known.

    Raises:
        GeometryError: MS-D106 no position or orientation, MS-D107 no pixel spacing, MS-D117 impossible values.
        InputError: MS-D108 no pixel data, MS-D113 CT without rescale, MS-D119 a pixel format that holds no grey values.
    """
    header = plane.header
    if plane.rows is None or (header.pixel_offset is None and header.syntax != DEFLATED):
        raise InputError("MS-D108", "this slice has no pixel data", file=plane.path, mend="copy or export it again")
    if plane.position is None or plane.orientation is None:
        what = "ImagePositionPatient" if plane.position is None else "ImageOrientationPatient"
        raise GeometryError(
            "MS-D106",
            f"{what} is missing: its place in the patient is not known",
            file=plane.path,
            mend="export the original series; a scan without positions cannot be placed",
        )
    if plane.spacing is None:
        raise GeometryError(
            "MS-D107",
            "PixelSpacing is missing: the size of its pixels is not known",
            file=plane.path,
            mend="export the original series (a detector's ImagerPixelSpacing is not the size in the patient)",
        )
    _check_values(plane)
    if (header.get("samples") or 1) != 1 or header.get("bits_allocated") not in (8, 16, 32):
        found = f"{header.get('samples') or 1} samples of {header.get('bits_allocated')} bits a pixel"
        raise InputError(
            "MS-D119", found, file=plane.path, mend="only grey images of 8, 16 or 32 bits can be segmented"
        )
    if header.get("modality") == "CT" and (plane.slope is None or plane.intercept is None):
        raise InputError(
            "MS-D113",
            "this CT has no RescaleSlope and RescaleIntercept: its values are no Hounsfield units",
            file=plane.path,
            mend="export the original series, or convert it to NIfTI if you know the values are Hounsfield units",
        )


def _check_values(plane: Plane) -> None:
    position, orientation, spacing = plane.position or (), plane.orientation or (), plane.spacing or ()
    wrong = None
    numbers = (*position, *orientation, *spacing, plane.slope or 1.0, plane.intercept or 0.0)
    if not all(abs(x) < 1e9 for x in numbers):  # NaN fails too
        wrong = f"position {position}, pixel spacing {spacing}, rescale {plane.slope} and {plane.intercept}"
    elif len(position) != 3 or len(orientation) != 6 or len(spacing) != 2:
        wrong = f"position {position}, orientation {orientation}, pixel spacing {spacing}"
    elif min(spacing) <= 0:
        wrong = f"pixel spacing {spacing}"
    elif plane.rows is None or plane.cols is None or plane.rows < 1 or plane.cols < 1:
        wrong = f"{plane.rows} rows and {plane.cols} columns"
    elif plane.slope == 0:
        wrong = "rescale slope 0"
    else:
        r, c = orientation[:3], orientation[3:]
        lengths = (sum(x * x for x in r) - 1, sum(x * x for x in c) - 1, sum(x * y for x, y in zip(r, c, strict=True)))
        if max(abs(v) for v in lengths) > 2e-3:
            wrong = f"row and column directions are no unit vectors at a right angle: {orientation}"
    if wrong:
        raise GeometryError("MS-D117", f"impossible values: {wrong}", file=plane.path, mend="export the series again")
