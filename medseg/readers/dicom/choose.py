"""The image volumes of a place, and the choice between several of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.errors import ChoiceError, InputError
from medseg.geometry import Grid
from medseg.readers.dicom.load import load_series
from medseg.readers.dicom.series import Contents, Series, scan
from medseg.volume import Decision

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.readers.options import ReadOptions
    from medseg.volume import Volume


def images_of(contents: Contents, path: Path) -> tuple[Series, ...]:
    """The image volumes of a place.

    Raises:
        InputError: MS-D102 when there is no DICOM file, MS-D103 when none of them is an image of a volume.
    """
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


def read_images(path: Path, options: ReadOptions) -> list[Volume]:
    """Every image volume of a file or folder that can be read, label maps beside them left alone."""
    return load_images(scan(path, options), path, options)


def load_images(contents: Contents, path: Path, options: ReadOptions) -> list[Volume]:
    """Every image volume of a place that can be read, or those that `options.series` names."""
    series = picked(images_of(contents, path), path, options)
    refused = [s for s in series if s.error is not None]
    readable = [s for s in series if s.error is None]
    if not readable or (options.series is not None and refused):
        raise refused[0].error  # pyright: ignore[reportGeneralTypeIssues]
    notes = [_refused_note(s) for s in refused]
    return [load_series(s, path).with_decisions(*notes) for s in readable]


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


def _refused_note(series: Series) -> Decision:
    error = series.error
    return Decision(
        "MS-D217", f"beside it, series {series.selector} was refused: {error.code} {error.what}" if error else ""
    )
