"""DICOM radiotherapy structure sets (RTSTRUCT): planar contours -> a label map on the image's grid.

Contours are closed polygons in patient coordinates. They are brought into voxel indices of the image, where those
of one slice lie in one plane also when the scan is oblique, and filled at the voxel centres (`polygons.py`).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom

from medseg.errors import GeometryError, InputError
from medseg.geometry import Grid, flip_ras_lps
from medseg.labels import Label
from medseg.readers.dicom.choose import read_images
from medseg.readers.dicom.coded import code_of, palette_colour, parsing, table_of
from medseg.readers.dicom.deflated import require_inflatable
from medseg.readers.dicom.polygons import fill_polygons
from medseg.readers.dicom.series import quiet
from medseg.readers.options import ReadOptions
from medseg.readers.segments import wanted_values
from medseg.readers.sniff import require_file
from medseg.volume import Decision, Source, Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.labels import LabelTable

#: Contours may stand this far (in slices) out of the plane of an image slice.
_OUT_OF_PLANE = 0.25

#: Contour planes nearer than this (in slices) are one plane.
_ONE_PLANE = 1e-2


@dataclass(frozen=True)
class _Structure:
    label: Label
    contours: tuple[np.ndarray, ...]  # (n, 3) RAS mm
    skipped: tuple[str, ...]  # types of contours that enclose no area
    frame_of_reference: str | None


def read_rtstruct(
    path: str | Path,
    image: Volume | str | Path | None = None,
    options: ReadOptions | None = None,
    *,
    structures: Sequence[str | int] | None = None,
) -> Volume:
    """Read an RTSTRUCT as a label map on the grid of its image.

    Args:
        path: the RTSTRUCT file.
        image: the image the contours were drawn on, or its DICOM folder; None: the folder of `path`.
        options: see `ReadOptions`.
        structures: names or numbers of the structures (ROIs) to read; None: the segments of `options`, else all.

    Returns:
        uint8 or uint16 label map of the image's shape and affine; ROI numbers, names and colours in `labels`.

    Raises:
        InputError: MS-D320 it cannot be parsed, MS-D321 its image was not found, MS-D306 a structure that is not in
            it, MS-D325 structures overlap.
        GeometryError: MS-D322 another frame of reference, MS-D323 contours across the slices, MS-D324 no
            contour lies in the image.
    """
    options, path = options or ReadOptions(), Path(path)
    structures = options.wanted_segments if structures is None else structures
    require_file(path)
    with quiet(), parsing(path, "MS-D320", "RTSTRUCT"):
        dataset = _parsed(path)
        found = _structures(dataset)
    table = table_of(s.label for s in found)
    wanted = wanted_values(table, structures, path, "structure")
    chosen = [s for s in found if s.label.value in wanted]
    volume = (
        image
        if isinstance(image, Volume)
        else _image(dataset, path, path.parent if image is None else Path(image), options)
    )
    _require_frame(chosen, volume, path)
    array, decisions = _label_map(chosen, table, volume.grid, path)
    source = Source(
        path=path,
        format="dicom-rtstruct",
        files=(path,),
        modality="RTSTRUCT",
        series_uid=str(dataset.get("SeriesInstanceUID") or "") or None,
        series_number=None if dataset.get("SeriesNumber") is None else int(dataset.SeriesNumber),
        frame_of_reference=chosen[0].frame_of_reference,
        description=str(dataset.get("SeriesDescription") or dataset.get("StructureSetLabel") or ""),
        decisions=tuple(decisions),
        details={"referenced_series": _referenced_series(dataset)},
    )
    kept = table if structures is None else table_of(x for x in table if x.value in wanted)
    return Volume(array, volume.affine, source, kept)


def _parsed(path: Path) -> pydicom.Dataset:
    require_inflatable(path)
    dataset = pydicom.dcmread(path, force=True)
    if "StructureSetROISequence" not in dataset:
        what = f"this is no structure set (Modality {dataset.get('Modality')!r})"
        raise InputError("MS-D320", what, file=path, mend="name the RTSTRUCT file")
    return dataset


def _structures(dataset: Any) -> list[_Structure]:
    items = list(dataset.StructureSetROISequence)
    numbers = [int(item.ROINumber) for item in items]
    if min(numbers, default=1) < 1 or max(numbers, default=1) > 65535 or len(set(numbers)) < len(numbers):
        values = dict(zip(numbers, range(1, len(numbers) + 1), strict=True))
    else:
        values = {n: n for n in numbers}
    contours = {int(item.ReferencedROINumber): item for item in dataset.get("ROIContourSequence", ())}
    observed = {int(o.get("ReferencedROINumber", -1)): o for o in dataset.get("RTROIObservationsSequence", ())}
    return [
        _structure(item, contours.get(n), observed.get(n), values[n], index)
        for index, (n, item) in enumerate(zip(numbers, items, strict=True))
    ]


def _structure(item: Any, contour: Any, observed: Any, value: int, index: int) -> _Structure:
    colour = tuple(int(c) for c in (contour.get("ROIDisplayColor") or ())) if contour is not None else ()
    codes = observed if observed is not None else pydicom.Dataset()
    label = Label(
        value=value,
        name=str(item.get("ROIName") or f"structure {value}"),
        colour=colour if len(colour) == 3 else palette_colour(index),
        type=code_of(codes, "RTROIIdentificationCodeSequence"),
    )
    closed, skipped = [], []
    for part in contour.get("ContourSequence") or () if contour is not None else ():
        points = _points(part)
        if part.get("ContourGeometricType") in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR") and len(points) >= 3:
            closed.append(points @ flip_ras_lps(np.eye(4))[:3, :3])
        else:
            skipped.append(str(part.get("ContourGeometricType")))
    return _Structure(
        label, tuple(closed), tuple(skipped), str(item.get("ReferencedFrameOfReferenceUID") or "") or None
    )


def _points(part: Any) -> np.ndarray:
    """(n, 3) LPS mm; decoded here because pydicom makes an object of every number."""
    raw = part.get_item("ContourData").value if "ContourData" in part else None
    values = raw.split(b"\\") if isinstance(raw, bytes) else (part.get("ContourData") or ())
    points = np.array([float(x) for x in values]).reshape(-1, 3)
    if not np.isfinite(points).all():
        msg = "a coordinate is no finite number"
        raise ValueError(msg)
    return points


def _referenced_series(dataset: Any) -> str | None:
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or ():
        for study in frame.get("RTReferencedStudySequence") or ():
            for series in study.get("RTReferencedSeriesSequence") or ():
                if series.get("SeriesInstanceUID"):
                    return str(series.SeriesInstanceUID)
    return None


def _image(dataset: Any, path: Path, where: Path, options: ReadOptions) -> Volume:
    uid = _referenced_series(dataset)
    try:
        volumes = read_images(where, replace(options, series=options.series or uid))
        if len(volumes) == 1:
            return volumes[0]
        found = f"{len(volumes)} volumes would fit"
    except InputError as error:
        found = error.what
    raise InputError(
        "MS-D321",
        f"the image that its contours were drawn on (series {uid or 'not named'}) was not found in {where}: {found}",
        file=path,
        mend="put the image series into the same folder (in Python you can also name it: read_rtstruct(path, image))",
    )


def _require_frame(structures: list[_Structure], image: Volume, path: Path) -> None:
    have = image.source.frame_of_reference
    other = sorted({s.frame_of_reference for s in structures if s.frame_of_reference} - {have})
    if have and other:
        raise GeometryError(
            "MS-D322",
            f"its contours lie in frame of reference {other[0]}, the image in {have}",
            file=path,
            mend="name the image that the contours were drawn on",
        )


def _label_map(
    structures: list[_Structure], table: LabelTable, grid: Grid, path: Path
) -> tuple[np.ndarray, list[Decision]]:
    axis = _slice_axis(structures, grid, path)
    # Slices first in memory: each is filled as one piece.
    plane = grid.shape[:axis] + grid.shape[axis + 1 :]
    slices = np.zeros(
        (grid.shape[axis], *plane), np.uint8 if max(s.label.value for s in structures) < 256 else np.uint16
    )
    notes: list[Decision] = []
    outside = total = 0
    for structure in structures:
        planes, beyond, unused = _planes(structure, grid, axis)
        total, outside = total + len(structure.contours), outside + beyond
        for k, outlines in planes.items():
            mask, border = fill_polygons(outlines, (plane[0], plane[1]))
            _require_free(slices[k], mask & ~border, structure.label.value, table, path)
            slices[k][mask & (slices[k] == 0)] = structure.label.value  # a shared outline stays with the first
        notes += _notes(structure, sorted(planes), unused)
    if total and outside == total:
        raise GeometryError(
            "MS-D324", "none of its contours lies in the image", file=path, mend="name the image they were drawn on"
        )
    if outside:
        notes.append(Decision("MS-D330", f"{outside} of {total} contours lie outside the image's slices; left out"))
    return np.moveaxis(slices, 0, axis), notes


def _slice_axis(structures: list[_Structure], grid: Grid, path: Path) -> int:
    """The array axis along which every contour keeps still."""
    contours = [c for s in structures for c in s.contours]
    if not contours:
        return 2
    spread = np.max([np.ptp(grid.to_index(c), axis=0) for c in contours], axis=0)
    axis = int(np.argmin(spread))
    if spread[axis] > 2 * _OUT_OF_PLANE:
        raise GeometryError(
            "MS-D323",
            f"its contours are not parallel to the slices of the image: one crosses {spread[axis]:.2g} of them",
            file=path,
            mend="name the image that the contours were drawn on",
        )
    return axis


def _planes(structure: _Structure, grid: Grid, axis: int) -> tuple[dict[int, list[np.ndarray]], int, int]:
    """Outlines for each slice, the number of contours outside the image, and of those beside a nearer plane."""
    by_slice: dict[int, list[tuple[float, np.ndarray]]] = defaultdict(list)
    beyond = unused = 0
    for contour in structure.contours:
        index = grid.to_index(contour)
        depth = float(index[:, axis].mean())
        # The edge of a slice belongs to the slice before it, so that a contour half-way lies in one slice only.
        k = int(np.ceil(depth - 0.5 - 1e-6))
        if 0 <= k < grid.shape[axis]:
            by_slice[k].append((depth, np.delete(index, axis, axis=1)))
        else:
            beyond += 1
    planes = {}
    for k, found in by_slice.items():
        nearest = min((depth for depth, _ in found), key=lambda depth: abs(depth - k))
        here = [outline for depth, outline in found if abs(depth - nearest) <= _ONE_PLANE]
        unused += len(found) - len(here)
        # A contour that is stored twice would cancel itself.
        planes[k] = list({outline.tobytes(): outline for outline in here}.values())
    return planes, beyond, unused


def _require_free(slice_: np.ndarray, mask: np.ndarray, value: int, table: LabelTable, path: Path) -> None:
    taken = slice_[mask]
    taken = taken[taken > 0]
    if not taken.size:
        return
    a, b = table.by_value[int(np.bincount(taken).argmax())].name, table.by_value[value].name
    raise InputError(
        "MS-D325",
        f"structures {a!r} and {b!r} overlap; a label map holds one value a voxel",
        file=path,
        mend=f"read them apart: --segments {quote(a)} and --segments {quote(b)} (in Python: segments={a!r})",
    )


def _notes(structure: _Structure, filled: list[int], unused: int) -> list[Decision]:
    name, notes = repr(structure.label.name), []
    if structure.skipped:
        kinds = ", ".join(sorted(set(structure.skipped)))
        text = f"{name}: {len(structure.skipped)} contours enclose no area ({kinds}); left out"
        notes.append(Decision("MS-D331", text, warning=not structure.contours))
    if unused:
        notes.append(
            Decision("MS-D332", f"{name}: {unused} contours between slices; the plane nearest to each slice counts")
        )
    between = [k for k in range(filled[0], filled[-1]) if k not in filled] if filled else []
    if between:
        text = f"{name}: {len(between)} slices between its contours hold none and stay empty"
        notes.append(Decision("MS-D333", text))
    return notes
