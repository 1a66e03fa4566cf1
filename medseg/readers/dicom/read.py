"""From a path to the DICOM volumes it holds, and the choice between several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import ChoiceError, InputError
from medseg.geometry import Grid
from medseg.readers.dicom.headers import read_header
from medseg.readers.dicom.load import load_series
from medseg.readers.dicom.objects import kind_of
from medseg.readers.dicom.series import Contents, Series, scan
from medseg.readers.options import ReadOptions
from medseg.volume import Decision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.volume import Volume


def find_series(path: Path | str, options: ReadOptions | None = None) -> list[Series]:
    """The image volumes of a file or folder, refused ones included (`Series.error`), from headers alone.

    Raises:
        InputError: MS-D102 when there is no DICOM file, MS-D103 when none of them is an image of a volume.
    """
    path, options = Path(path), options or ReadOptions()
    return list(_images(scan(path, options), path))


def read_dicom(path: Path | str, options: ReadOptions | None = None) -> list[Volume]:
    """Every image volume of a file or folder that can be read, or those that `options.series` names.

    Each volume records which others of the same place were refused. Where there is no image, the label maps (SEG,
    RTSTRUCT) are what is meant.

    Args:
        path: a file, a DICOMDIR, or a folder with nested ones.
        options: `series` picks by SeriesNumber, SeriesInstanceUID or selector.

    Raises:
        InputError: nothing could be read: the refusal of the first volume, or MS-D101 to MS-D103.
        ChoiceError: MS-D131 when `options.series` names none of the volumes.
    """
    path, options = Path(path), options or ReadOptions()
    contents = scan(path, options)
    if labels := label_files(contents):
        return [read_label(file, path, options) for file in labels]
    return _read_images(contents, path, options)


def read_images(path: Path, options: ReadOptions) -> list[Volume]:
    """As `read_dicom`, of images alone."""
    return _read_images(scan(path, options), path, options)


def _read_images(contents: Contents, path: Path, options: ReadOptions) -> list[Volume]:
    series = picked(_images(contents, path), path, options)
    refused = [s for s in series if s.error is not None]
    readable = [s for s in series if s.error is None]
    if not readable or (options.series is not None and refused):
        raise refused[0].error  # pyright: ignore[reportGeneralTypeIssues]
    notes = [_refused_note(s) for s in refused]
    return [load_series(s, path).with_decisions(*notes) for s in readable]


def read_one(path: Path | str, options: ReadOptions | None = None) -> Volume:
    """The one image volume of a file or folder.

    Raises:
        ChoiceError: MS-D130 when there are several, refused ones included: which was meant is not ours to guess.
        InputError: as `read_dicom`.
    """
    path, options = Path(path), options or ReadOptions()
    contents = scan(path, options)
    labels = label_files(contents)
    if len(labels) == 1:
        return read_label(labels[0], path, options)
    if labels:
        raise ChoiceError(
            "MS-D130",
            f"{len(labels)} segmentations, where one volume is wanted",
            file=path,
            mend=f"name one file, such as {labels[0]}",
            candidates=[str(file) for file in labels],
        )
    series = picked(_images(contents, path), path, options)
    if len(series) > 1:
        raise ChoiceError(
            "MS-D130",
            f"{len(series)} volumes, where one is wanted",
            file=path,
            mend=f"pick one, such as --series {next((s for s in series if s.error is None), series[0]).selector}",
            candidates=[describe(s) for s in series],
        )
    return load_series(series[0], path)


def describe(series: Series) -> str:
    """One line for a table of candidates: what to type, what it is, and its verdict."""
    size = f"{len(series.files)} files"
    if series.shape and series.geometry:
        grid = Grid(series.shape, series.geometry.affine_ras)
        size = (
            f"{' x '.join(map(str, grid.shape))} {grid.axcodes} {' x '.join(f'{mm:.3g}' for mm in grid.spacing_mm)} mm"
        )
    told = ", ".join(
        f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in series.keys.items() if not _raw(v)
    )
    verdict = "" if series.error is None else f"  refused ({series.error.code}: {series.error.what})"
    text = f"--series {series.selector}  {series.modality or '?'}  {size}  {series.description}"
    return f"{text}{f'  [{told}]' if told else ''}{verdict}"


def _raw(value: object) -> bool:
    return isinstance(value, bytes | tuple)


def _images(contents: Contents, path: Path) -> tuple[Series, ...]:
    if contents.series:
        return contents.series
    if contents.objects:
        reasons = sorted({reason.what for _, _, reason in contents.objects})
        if len(contents.objects) == 1:
            raise contents.objects[0][2]
        found = f"none of {len(contents.objects)} DICOM files is an image of a volume: {'; '.join(reasons[:4])}"
        raise InputError("MS-D103", found, file=path, mend="name the folder of a CT, MR or PET series")
    if contents.damaged:
        raise contents.damaged[0]
    found = f"no DICOM file ({len(contents.others)} files of another kind)" if contents.others else "no file at all"
    raise InputError("MS-D102", found, file=path, mend="name the folder that holds the DICOM series")


def picked(series: Sequence[Series], path: Path, options: ReadOptions) -> list[Series]:
    """Those that `options.series` names, all without it.

    Raises:
        ChoiceError: MS-D131 it names none of them.
    """
    wanted = options.series
    if wanted is None:
        return list(series)
    exact = [s for s in series if s.selector == wanted]
    named = exact or [s for s in series if wanted in (s.uid, str(s.number))]
    if named:
        return named
    raise ChoiceError(
        "MS-D131",
        f"no volume is called {wanted!r}",
        file=path,
        mend=f"pick one of these, such as --series {series[0].selector}",
        candidates=[describe(s) for s in series],
    )


def _refused_note(series: Series) -> Decision:
    error = series.error
    return Decision(
        "MS-D217", f"beside it, series {series.selector} was refused: {error.code} {error.what}" if error else ""
    )


def label_files(contents: Contents) -> list[Path]:
    """The SEG and RTSTRUCT files where no image lies beside them; () where one does: then it is meant."""
    if contents.series:
        return []
    return [header.path for header, kind, _ in contents.objects if kind in ("dicom-seg", "dicom-rtstruct")]


def read_label(file: Path, place: Path, options: ReadOptions) -> Volume:
    """The label map of a SEG or RTSTRUCT file; `place` is where an RTSTRUCT's image is looked for.

    Raises:
        InputError: MS-D3xx.
    """
    header = read_header(file)
    if header is not None and kind_of(header) == "dicom-seg":
        from medseg.readers.dicom.seg import read_seg

        return read_seg(file, options)
    from medseg.readers.dicom.rtstruct import read_rtstruct

    return read_rtstruct(file, place if place.is_dir() else file.parent, options)
