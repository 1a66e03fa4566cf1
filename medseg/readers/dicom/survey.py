"""One `Finding` for each DICOM volume of a folder, and one for everything that is none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import InputError, MemoryLimitError
from medseg.geometry import Grid
from medseg.readers.dicom.choose import picked
from medseg.readers.dicom.read import read_label
from medseg.readers.dicom.series import Series, scan
from medseg.readers.finding import Finding
from medseg.readers.options import ReadOptions

if TYPE_CHECKING:
    from medseg.readers.dicom.headers import Header

_LABELS = {"dicom-seg": "ok: label map (SEG)", "dicom-rtstruct": "ok: contours (RTSTRUCT)"}


def survey_dicom(path: Path | str, options: ReadOptions | None = None) -> list[Finding]:
    """What a file or folder holds and what would become of it.

    Images are judged from their headers alone; label maps are read, because only then their verdict is known.

    Returns:
        A row for each volume, label object, damaged file and object that is no image of a volume; with
        `options.series` for the volumes that it names.

    Raises:
        ChoiceError: MS-D131 when `options.series` names none of the volumes. Nothing else raises.
    """
    path, options = Path(path), options or ReadOptions()
    contents = scan(path, options)
    alone = len(contents.series) == 1
    if options.series is not None and contents.series:
        return [_of_series(series, path, alone) for series in picked(contents.series, path, options)]
    rows = [_of_series(series, path, alone) for series in contents.series]
    for header, kind, reason in contents.objects:
        rows.append(_of_label(header, kind, path, options) if kind in _LABELS else _of_object(header, kind, reason))
    return rows + [_of_damaged(error) for error in contents.damaged]


def _of_series(series: Series, path: Path, alone: bool) -> Finding:
    folder = path if path.is_file() else series.files[0].parent
    place = path.stem if path.is_file() else path.resolve().name
    error = series.error
    shape, geometry = series.shape, series.geometry
    grid = Grid(shape, geometry.affine_ras) if shape and geometry and geometry.affine_lps is not None else None
    return Finding(
        path=folder,
        name=place if series.number is None and alone else f"{place}_{series.selector.replace(':', '.')}",
        format="dicom",
        verdict=_verdict(series),
        modality=series.modality,
        shape=shape,
        spacing_mm=grid.spacing_mm if grid else None,
        axcodes=grid.axcodes if grid else None,
        code=error.code if error else None,
        message=f"{error.what} -> {error.mend}" if error else "",
        series=None if alone else series.selector,
        decisions=series.decisions,
        description=series.description,
        files=len(series.files),
    )


def _verdict(series: Series) -> str:
    if series.error is not None:
        return "refused"
    geometry = series.geometry
    done = []
    if geometry and geometry.uneven:
        done.append("interpolated over gaps")
    if geometry and geometry.sheared:
        done.append(f"resampled from {geometry.tilt_deg:.1f} degrees of tilt")
    return f"ok: {', '.join(done)}" if done else "ok"


def _of_object(header: Header, kind: str, reason: InputError | MemoryLimitError) -> Finding:
    return Finding(
        path=header.path,
        name=header.path.stem,
        format=kind,
        verdict="refused",
        modality=header.get("modality"),
        code=reason.code,
        message=f"{reason.what} -> {reason.mend}",
        description=header.description,
    )


def _of_label(header: Header, kind: str, place: Path, options: ReadOptions) -> Finding:
    try:
        volume = read_label(header.path, place, options)
    except (InputError, MemoryLimitError) as error:
        return _of_object(header, kind, error)
    return Finding(
        path=header.path,
        name=header.path.stem,
        format=kind,
        verdict=_LABELS[kind],
        modality=header.get("modality"),
        shape=volume.array.shape,
        spacing_mm=volume.spacing_mm,
        axcodes=volume.grid.axcodes,
        decisions=volume.source.decisions,
        description=header.description,
    )


def _of_damaged(error: InputError) -> Finding:
    file = Path(error.file or "")
    message = f"{error.what} -> {error.mend}"
    return Finding(path=file, name=file.stem, format="dicom", verdict="refused", code=error.code, message=message)
