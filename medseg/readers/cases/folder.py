"""A folder of images, of case folders or of DICOM studies -> cases."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from medseg.errors import InputError
from medseg.readers.cases.by_grid import by_grid
from medseg.readers.cases.case import Case
from medseg.readers.cases.grouping import group, numbered_case
from medseg.readers.cases.names import case_stem, has_dicom_name, has_image_name, is_label_name, split_channel, stem
from medseg.readers.dicom import find_series
from medseg.readers.dicom.headers import read_header
from medseg.readers.sniff import IMAGES, sniff

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from medseg.readers.options import ReadOptions

#: So many names stand in one message.
_SHOWN = 5


@dataclass(frozen=True)
class _Folder:
    path: Path
    images: tuple[Path, ...]  # NIfTI, NRRD, MetaImage
    study: str | None  # of the DICOM files right in it
    below: tuple[_Folder, ...]

    def walk(self) -> Iterator[_Folder]:
        yield self
        for folder in self.below:
            yield from folder.walk()

    @property
    def studies(self) -> set[str]:
        return {folder.study for folder in self.walk() if folder.study is not None}


def file_case(path: Path, channels: Sequence[str], options: ReadOptions) -> Case:
    """The case of one named file; `x_0000` brings `x_0001` and so on from beside it when several are wanted."""
    split = split_channel(stem(path))
    if split is not None and split[1] == 0 and len(channels) > 1:
        beside = [f for f in path.parent.iterdir() if has_image_name(f)]
        numbers = {s[1]: f for f in sorted(beside) if (s := split_channel(stem(f))) and s[0] == split[0]}
        return numbered_case(split[0], {**numbers, 0: path}, channels, options)
    return Case(case_stem(path), (path,), options=options)


def folder_cases(root: Path, channels: Sequence[str], options: ReadOptions) -> list[Case]:
    """The cases of a folder and the folders in it.

    A DICOM study is one case, named by its folder and the number of the series that will be read. Other images are
    cases by their file names, see `grouping.py`; label maps are theirs by name, else by grid (`by_grid.py`).

    Raises:
        InputError: MS-C108 files called label maps lie among the images and belong to none of them.
    """
    tree = _look(root, set())
    dicom = [_dicom_case(folder, root, options) for folder in _study_folders(tree)]
    images: list[Case] = []
    strays: list[Path] = []
    for folder in tree.walk():
        study = next((n for n, case in enumerate(dicom) if folder.path.is_relative_to(case.images[0])), None)
        files = folder.images
        if study is not None:
            # Label maps beside the slices belong to the study.
            labels = [f for f in files if is_label_name(f)]
            maps = (*dicom[study].maps, *labels)
            dicom[study] = replace(dicom[study], label=maps[0] if len(maps) == 1 else None, maps=maps)
            files = [f for f in files if f not in labels]
        found = by_grid(group(files, folder_name(folder.path, root), channels, options))
        images += found.cases
        strays += found.strays
    if strays:
        names = ", ".join(str(f.relative_to(root)) for f in strays[:_SHOWN]) + (", ..." if len(strays) > _SHOWN else "")
        raise InputError(
            "MS-C108",
            f"{len(strays)} files are called label maps and belong to no image here: {names}",
            file=root,
            mend="move them to another folder, name them <image>_seg, or give a CSV list with name, image and label",
        )
    return sorted([*dicom, *images], key=lambda case: case.name)


def folder_name(path: Path, root: Path) -> str:
    """What a case is called by its folder: the path below `root` with `_` between, or the name of `root`."""
    parts = path.relative_to(root).parts
    return "_".join(parts) if parts else path.resolve().name


def dicom_name(path: Path, name: str, options: ReadOptions) -> str:
    """`name` and the number of the one series that will be read, `name` alone while that is open."""
    try:
        series = [s for s in find_series(path, options) if s.error is None]
    except InputError:
        return name
    if options.series is not None:
        series = [s for s in series if options.series in (str(s.number), s.uid, s.selector)]
    return f"{name}_{series[0].number}" if len(series) == 1 and series[0].number is not None else name


def _dicom_case(folder: _Folder, root: Path, options: ReadOptions) -> Case:
    return Case(dicom_name(folder.path, folder_name(folder.path, root), options), (folder.path,), options=options)


def _study_folders(tree: _Folder) -> list[_Folder]:
    """The highest folders that hold slices themselves, or slices of one study and nothing but its label maps."""
    if tree.study is not None:
        return [tree]
    images = [f for folder in tree.walk() if folder.study is None for f in folder.images if not is_label_name(f)]
    if len(tree.studies) == 1 and not images:
        return [tree]
    return [found for folder in tree.below for found in _study_folders(folder)]


def _look(path: Path, seen: set[str]) -> _Folder:
    seen.add(os.path.realpath(path))
    images, study, below = [], None, []
    try:
        entries = sorted(path.iterdir(), key=lambda p: p.name)
    except OSError:  # no permission: a case that fails when it is read, rather than one that is passed over
        return _Folder(path, (), str(path), ())
    for entry in entries:
        if entry.name.startswith((".", "__MACOSX")):
            continue
        if entry.is_dir():
            if os.path.realpath(entry) not in seen:  # a link may lead back up
                below.append(_look(entry, seen))
        elif has_image_name(entry):
            images.append(entry)
        elif study is None and entry.name.upper() != "DICOMDIR":
            kind = "dicom" if has_dicom_name(entry) else _kind(entry)
            if kind == "dicom":
                study = _study(entry)
            elif kind in IMAGES:
                images.append(entry)
    return _Folder(path, tuple(_without_pairs(images)), study, tuple(below))


def _without_pairs(images: list[Path]) -> list[Path]:
    headers = {stem(f) for f in images if f.name.lower().endswith((".hdr", ".hdr.gz"))}
    return [f for f in images if not (f.name.lower().endswith((".img", ".img.gz")) and stem(f) in headers)]


def _kind(path: Path) -> str:
    try:
        return sniff(path)
    except InputError:
        return "unknown"


def _study(path: Path) -> str:
    try:
        header = read_header(path)
    except InputError:
        header = None
    return (header.get("study_uid") if header is not None else None) or str(path.parent)
