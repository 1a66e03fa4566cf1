"""What a DICOM series makes medseg decide or tell, as `Decision`s."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.readers.dicom.geometry import WHOLE_STEP
from medseg.readers.dicom.objects import SECONDARY_CAPTURE
from medseg.readers.dicom.planes import WHOLE_KEYS
from medseg.volume import Decision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.readers.dicom.geometry import StackGeometry
    from medseg.readers.dicom.headers import Header
    from medseg.readers.dicom.planes import Plane

#: Slices further apart than this many thicknesses look as if some were missing, unless the files state that distance.
_WIDE = 1.5
#: SliceThickness may differ from the distance of slices by this share before it is told.
_THICKNESS_SHARE = 0.05


def series_notes(headers: Sequence[Header], localizers: int) -> tuple[Decision, ...]:
    """What concerns a whole series."""
    first = headers[0]
    notes = []
    if localizers:
        notes.append(Decision("MS-D201", f"{localizers} localizer images of this series were left out", warning=False))
    if not first.get("series_uid"):
        notes.append(
            Decision("MS-D218", "the files have no SeriesInstanceUID; grouped by SeriesNumber and description")
        )
    if (first.get("sop_class") or "").startswith(SECONDARY_CAPTURE):
        notes.append(Decision("MS-D220", "these are secondary captures: their values may be changed for display"))
    if not first.get("frame_of_reference"):
        notes.append(Decision("MS-D221", "no FrameOfReferenceUID: its space cannot be told from other scans'", False))
    if any(h.get("lossy") == "01" for h in headers):
        notes.append(Decision("MS-D219", "the images were compressed with loss"))
    if first.get("photometric") == "MONOCHROME1":
        notes.append(Decision("MS-D211", "MONOCHROME1: values kept as stored; only their display is inverted", False))
    if first.get("padding"):
        notes.append(Decision("MS-D212", "pixels outside the scanned field hold a padding value", warning=False))
    return tuple(notes)


def stack_notes(planes: Sequence[Plane], geometry: StackGeometry, allow_gaps: bool) -> tuple[Decision, ...]:
    """What concerns the geometry of one volume: what will be resampled, what is unusual."""
    if geometry.affine_lps is None:
        return ()
    notes = []
    step = float(np.linalg.norm(geometry.affine_lps[:3, 2]))
    first = planes[0]
    if geometry.kind == "single-slice":
        known = (first.step or first.thickness or 0) > 0
        source = "the slice thickness" if known else "no slice thickness is given"
        notes.append(Decision("MS-D209", f"a single slice, taken as {step:g} mm thick ({source})"))
    elif (
        first.thickness
        and abs(first.thickness - step * np.cos(np.radians(geometry.tilt_deg))) > _THICKNESS_SHARE * step
    ):
        notes.append(_thickness_note(first, step))
    if mixed := [key for key in WHOLE_KEYS if len({p.keys.get(key) for p in planes}) > 1]:
        values = [f"{key} ({', '.join(dict.fromkeys(str(p.keys.get(key)) for p in planes))})" for key in mixed]
        notes.append(Decision("MS-D222", f"slices of one volume differ in {', '.join(values)}; taken together"))
    if geometry.uneven and allow_gaps:
        made = geometry.slices - sum(abs(i - round(i)) < WHOLE_STEP for i in geometry.index)
        note = (
            f"{len(planes)} unevenly placed slices resampled to {geometry.slices} at {step:.4g} mm, {made} interpolated"
        )
        notes.append(Decision("MS-D207", note))
    if geometry.sheared:
        note = f"tilted by {geometry.tilt_deg:.2f} degrees; resampled once to a grid with right angles"
        notes.append(Decision("MS-D206", note))
    if geometry.off_line_mm > 0.01:
        loud = geometry.off_line_mm > 0.1
        notes.append(Decision("MS-D210", f"slices lie up to {geometry.off_line_mm:.3f} mm off even steps", loud))
    if first.tile is not None:
        notes.append(Decision("MS-D215", f"{len(planes)} slices unpacked from a Siemens mosaic", warning=False))
    if len({(p.slope, p.intercept) for p in planes}) > 1:
        notes.append(Decision("MS-D214", "each slice has its own rescale slope or intercept; applied", warning=False))
    return tuple(notes)


def _thickness_note(first: Plane, step: float) -> Decision:
    thickness = first.thickness or 0.0
    stated = first.step is not None and abs(first.step - step) <= _THICKNESS_SHARE * step
    wide = step > _WIDE * thickness and not stated
    what = "overlap" if thickness > step else "slices may be missing" if wide else "gap"
    return Decision("MS-D208", f"slices of {thickness:g} mm lie {step:.4g} mm apart ({what})", warning=wide)
