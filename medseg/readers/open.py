"""The way in: a path to its volumes, whatever the format, told apart by the first bytes of the files.

A file is read by its kind. In a folder, DICOM anywhere below is one loader's business; every other image file is a
volume of its own. What only looks like an image (a Git-LFS pointer named .nii.gz) is refused, not passed over.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import ChoiceError, InputError, MedsegError
from medseg.readers.finding import Finding
from medseg.readers.nifti import check_nifti, header_path, nifti_grid, read_nifti
from medseg.readers.nrrd import check_nrrd, nrrd_grid, read_nrrd
from medseg.readers.options import ReadOptions
from medseg.readers.sniff import IMAGES, refuse, sniff

if TYPE_CHECKING:
    from os import PathLike

    from medseg.geometry import Grid
    from medseg.volume import Volume

#: Longest first, so that 'a.seg.nrrd' is called 'a'.
_EXTENSIONS = (
    ".seg.nrrd", ".nii.gz", ".hdr.gz", ".img.gz", ".mgh.gz",
    ".nii", ".hdr", ".img", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh", ".dcm", ".ima",
)  # fmt: skip
#: Kinds that belong to an image format even where medseg does not read them.
_NEAR = frozenset({"analyze", "mgh", "minc", "gzip-analyze", "gzip-mgh", "gzip-dicom", "git-lfs"})
_LISTED = 20


@dataclass(frozen=True)
class _Contents:
    """The files below a folder: images one a file, files that only look like images, and whether there is DICOM."""

    images: tuple[Path, ...]
    broken: tuple[Path, ...]
    dicom: bool
    kinds: Counter[str]


def read(path: str | PathLike[str], options: ReadOptions | None = None) -> Volume:
    """Read exactly one volume.

    Args:
        path: an image file, or a folder that holds one DICOM volume or one image file.
        options: see `ReadOptions`; `series` picks one of several DICOM volumes.

    Raises:
        InputError: MS-F109 no image in the folder, or the reader's own refusal.
        ChoiceError: MS-F110 several images, MS-D130 several DICOM volumes; both list what can be picked.
        GeometryError: its place in space is missing, broken or ambiguous.
    """
    path, options = Path(path), options or ReadOptions()
    one = _one(path, options)
    if one.is_dir():
        from medseg.readers.dicom import read_one

        return read_one(one, options)
    return _read_file(one, options)


def check(path: str | PathLike[str], options: ReadOptions | None = None) -> int:
    """Refuse what `read` would refuse for its headers: the file's kind and size, its place in space, the limits.

    Only headers are read, of gzip no more than its first block and last bytes. What stands in voxels and checksums comes
    up when it is read.

    Returns:
        How many channels it holds.

    Raises:
        InputError, ChoiceError, GeometryError, MemoryLimitError: as `read`.
    """
    path, options = Path(path), options or ReadOptions()
    one = header_path(_one(path, options))
    kind = "dicom" if one.is_dir() else sniff(one)
    if kind.removeprefix("gzip-") in ("nifti", "nifti-pair"):
        shape = check_nifti(one, options)
        return shape[3] if len(shape) == 4 else 1
    if kind in ("nrrd", "metaimage"):
        shape = check_nrrd(one, options)
        return shape[0] if len(shape) == 4 else 1
    if kind == "dicom":
        from medseg.readers.dicom import check_one

        check_one(one, options)
        return 1
    return refuse(one, kind)


def grid_of(path: str | PathLike[str], options: ReadOptions | None = None) -> Grid:
    """Where the voxels of an image file other than DICOM lie; its header alone is read.

    Raises:
        InputError, GeometryError: as `read`.
    """
    path, options = header_path(Path(path)), options or ReadOptions()
    kind = sniff(path)
    if kind.removeprefix("gzip-") in ("nifti", "nifti-pair"):
        return nifti_grid(path, options)
    return nrrd_grid(path, options) if kind in ("nrrd", "metaimage") else refuse(path, kind)


def _one(path: Path, options: ReadOptions) -> Path:
    """The one image file that a path means, or the folder itself where that is its DICOM."""
    if not path.is_dir():
        return path
    found = _contents(path)
    files = found.images + found.broken
    if found.dicom and (not files or options.series is not None):
        return path
    if len(files) == 1 and not found.dicom:
        return files[0]
    if not files:
        raise _nothing(path, found)
    candidates = [f"{file.relative_to(path)}" for file in files[:_LISTED]]
    if len(files) > _LISTED:
        candidates.append(f"... and {len(files) - _LISTED} more")
    if found.dicom:
        candidates.append("a DICOM series: name it with --series, `medseg inspect` lists them")
    raise ChoiceError(
        "MS-F110",
        f"{len(files) + found.dicom} images, where one is wanted",
        file=path,
        mend=f"name one file, such as {files[0]}",
        candidates=candidates,
    )


def read_all(path: str | PathLike[str], options: ReadOptions | None = None) -> list[Volume]:
    """Read every volume of a file or folder: the DICOM volumes, then the image files in order of their paths.

    Raises:
        InputError: MS-F109 no image at all, or the refusal of the first one that cannot be read.
    """
    path, options = Path(path), options or ReadOptions()
    if not path.is_dir():
        if sniff(path) != "dicom":
            return [_read_file(path, options)]
        found = _Contents((), (), dicom=True, kinds=Counter())
    else:
        found = _contents(path)
    volumes: list[Volume] = []
    if found.dicom:
        from medseg.readers.dicom import read_dicom

        volumes += read_dicom(path, options)
    volumes += [_read_file(file, options) for file in sorted(found.images + found.broken)]
    if not volumes:
        raise _nothing(path, found)
    return volumes


def survey(path: str | PathLike[str], options: ReadOptions | None = None) -> list[Finding]:
    """What is there and what would become of it: one row for each volume, and for each file that is refused.

    Image files are read in full, so that the verdict holds; of DICOM only the headers are.

    Raises:
        InputError: MS-F101 to MS-F103 the path itself, MS-F109 nothing in it is an image.
    """
    path, options = Path(path), options or ReadOptions()
    if not path.is_dir():
        if sniff(path) != "dicom":
            return [_finding(path, options)]
        found = _Contents((), (), dicom=True, kinds=Counter())
    else:
        found = _contents(path)
    rows: list[Finding] = []
    if found.dicom:
        from medseg.readers.dicom import survey_dicom

        rows += survey_dicom(path, options)
    rows += [_finding(file, options) for file in sorted(found.images + found.broken)]
    if not rows:
        raise _nothing(path, found)
    return rows


def image_name(path: Path) -> str:
    """The file name without the extensions of an image: 'a_0000.nii.gz' -> 'a_0000', 'b.seg.nrrd' -> 'b'."""
    for extension in _EXTENSIONS:
        if path.name.lower().endswith(extension) and len(path.name) > len(extension):
            return path.name[: -len(extension)]
    return path.stem or path.name


def _read_file(path: Path, options: ReadOptions) -> Volume:
    path = header_path(path)
    kind = sniff(path)
    if kind.removeprefix("gzip-") in ("nifti", "nifti-pair"):
        return read_nifti(path, options)
    if kind in ("nrrd", "metaimage"):
        return read_nrrd(path, options)
    if kind == "dicom":
        from medseg.readers.dicom import read_one

        return read_one(path, options)
    refuse(path, kind)
    return None


def _contents(folder: Path) -> _Contents:
    images, broken, kinds = [], [], Counter()
    for path in _files(folder):
        if header_path(path) != path:
            continue  # the .img of a pair: its .hdr stands for both
        try:
            kind = sniff(path)
        except InputError:
            kind = "unreadable"
        kinds[kind] += 1
        if kind in IMAGES and kind != "dicom":
            images.append(path)
        elif kind != "dicom" and (kind in _NEAR or path.name.lower().endswith(_EXTENSIONS)):
            broken.append(path)
    return _Contents(tuple(images), tuple(broken), kinds["dicom"] > 0, kinds)


def _files(folder: Path) -> list[Path]:
    """Every file below `folder` but hidden ones (.DS_Store, ._scan.nii, .git), in order; links to folders not followed."""
    found = []
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(root, name) for name in sorted(files) if not name.startswith(".")]
    return found


def _finding(path: Path, options: ReadOptions) -> Finding:
    name, kind = image_name(path), "unknown"
    try:
        kind = sniff(header_path(path)).removeprefix("gzip-").removesuffix("-pair")
        volume = _read_file(path, options)
    except MedsegError as error:
        message = f"{error.what} -> {error.mend}"
        return Finding(path=path, name=name, format=kind, verdict="refused", code=error.code, message=message)
    return Finding(
        path=path,
        name=name,
        format=volume.source.format,
        verdict="ok",
        modality=volume.source.modality,
        shape=volume.array.shape,
        spacing_mm=volume.spacing_mm,
        axcodes=volume.grid.axcodes,
        decisions=volume.source.decisions,
        description=volume.source.description,
        files=len(volume.source.files),
    )


def _nothing(path: Path, found: _Contents) -> InputError:
    other = ", ".join(f"{count} {kind}" for kind, count in found.kinds.most_common(6))
    return InputError(
        "MS-F109",
        f"no image in this folder (found: {other})" if other else "no file in this folder",
        file=path,
        mend="name a folder with NIfTI, NRRD, MetaImage or DICOM files",
    )
