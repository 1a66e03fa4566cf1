"""From a path to the DICOM volumes it holds, and the choice between several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import ChoiceError
from medseg.readers.dicom.choose import describe, images_of, load_images, picked
from medseg.readers.dicom.headers import read_header
from medseg.readers.dicom.load import load_series
from medseg.readers.dicom.objects import kind_of
from medseg.readers.dicom.series import Contents, Series, scan
from medseg.readers.options import ReadOptions

if TYPE_CHECKING:
    from medseg.volume import Volume


def find_series(path: Path | str, options: ReadOptions | None = None) -> list[Series]:
    """The image volumes of a file or folder, refused ones included (`Series.error`), from headers alone.

    Raises:
        InputError: MS-D102 when there is no DICOM file, MS-D103 when none of them is an image of a volume.
    """
    path, options = Path(path), options or ReadOptions()
    return list(images_of(scan(path, options), path))


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
    return load_images(contents, path, options)


def read_one(path: Path | str, options: ReadOptions | None = None) -> Volume:
    """The one image volume of a file or folder.

    Raises:
        ChoiceError: MS-D130 when there are several, refused ones included: which was meant is not ours to guess.
        InputError: as `read_dicom`.
    """
    path, options = Path(path), options or ReadOptions()
    chosen = _chosen(path, options)
    return load_series(chosen, path) if isinstance(chosen, Series) else read_label(chosen, path, options)


def check_one(path: Path | str, options: ReadOptions | None = None) -> None:
    """Refuse what `read_one` would refuse for its headers: nothing to choose from, several volumes, a broken series.

    Raises:
        ChoiceError, InputError: as `read_one`.
    """
    path, options = Path(path), options or ReadOptions()
    chosen = _chosen(path, options)
    if isinstance(chosen, Series) and chosen.error is not None:
        raise chosen.error


def _chosen(path: Path, options: ReadOptions) -> Series | Path:
    """The one image volume of a file or folder, or the file of its one segmentation."""
    contents = scan(path, options)
    labels = label_files(contents)
    if len(labels) == 1:
        return labels[0]
    if labels:
        raise ChoiceError(
            "MS-D130",
            f"{len(labels)} segmentations, where one volume is wanted",
            file=path,
            mend=f"name one file, such as {labels[0]}",
            candidates=[str(file) for file in labels],
        )
    series = picked(images_of(contents, path), path, options)
    if len(series) > 1:
        raise ChoiceError(
            "MS-D130",
            f"{len(series)} volumes, where one is wanted",
            file=path,
            mend=f"pick one, such as --series {next((s for s in series if s.error is None), series[0]).selector}",
            candidates=[describe(s) for s in series],
        )
    return series[0]


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
