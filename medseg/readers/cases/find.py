"""`find_cases`: whatever the user named -> a list of cases, or a refusal of the list as a whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import InputError
from medseg.readers.cases.dataset import dataset_cases, dataset_layout, is_dataset_json
from medseg.readers.cases.folder import file_case, folder_cases
from medseg.readers.cases.names import collision_key, safe_name
from medseg.readers.cases.table import table_cases
from medseg.readers.options import ReadOptions
from medseg.readers.sniff import require_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from medseg.readers.cases.case import Case

#: So many names stand in one message.
_SHOWN = 5


def find_cases(
    path: str | Path,
    *,
    channels: Sequence[str] = (),
    options: ReadOptions | None = None,
    need_labels: bool = False,
    sift: Callable[[list[Case]], list[Case]] | None = None,
) -> list[Case]:
    """The cases in what the user named, in the order of names (of a list: in its own order).

    Args:
        path: an image; a DICOM folder; a folder of cases or studies; an MSD or nnU-Net dataset.json or the folder
            that holds it; an imagesTr folder (labelsTr beside it); a CSV, TSV or JSON list with the columns
            `name`, `image` or one column a channel, and `label`.
        channels: the names of the channels that the bundle wants, in its order; () takes one of any name.
        options: how to read them.
        need_labels: refuse when an image has no label map, or a label map no image.
        sift: picks those that count, before their names are compared.

    Raises:
        InputError: MS-C101 nothing found, MS-C102 two inputs would write one output, MS-C103 an unusable list,
            MS-C104 an unusable dataset.json, MS-C105 or MS-C106 other channels than the bundle's, MS-C108 label maps
            among the images that belong to none of them, MS-C109 missing or left-over label maps, MS-F10x the path.
    """
    path, options, channels = Path(path), options or ReadOptions(), tuple(channels) or ("image",)
    cases = _cases_of(path, channels, options, need_labels=need_labels)
    cases = cases if sift is None else sift(cases)
    cases = [replace(case, name=safe_name(case.name)) for case in cases]
    if not cases:
        raise InputError(
            "MS-C101",
            "no image was found",
            file=path,
            mend="name a NIfTI, NRRD, MetaImage or DICOM image, a folder of them, dataset.json or a CSV list",
        )
    _require_unique(cases, path)
    if need_labels:
        _require_labels(cases, path)
    return cases


def _cases_of(path: Path, channels: tuple[str, ...], options: ReadOptions, *, need_labels: bool) -> list[Case]:
    if path.is_dir():
        layout = dataset_layout(path)
        if layout is not None:
            return dataset_cases(layout, channels, options, need_labels=need_labels)
        return folder_cases(path, channels, options)
    require_file(path)
    if path.suffix.lower() == ".json" and is_dataset_json(path):
        return dataset_cases(path, channels, options, need_labels=need_labels)
    if path.suffix.lower() in (".csv", ".tsv", ".json"):
        return table_cases(path, channels, options)
    return [file_case(path, channels, options)]


def _require_unique(cases: list[Case], path: Path) -> None:
    first: dict[str, Case] = {}
    for case in cases:
        other = first.setdefault(collision_key(case.name), case)
        if other is not case:
            a, b = (c.images[0] if c.images else c.name for c in (other, case))
            raise InputError(
                "MS-C102",
                f"two inputs would write one output, {case.name!r}: {a} and {b}",
                file=path,
                mend="rename one, or give a CSV list with the columns name, image (and label)",
            )


def _require_labels(cases: list[Case], path: Path) -> None:
    missing = [case.name for case in cases if case.label is None]
    if missing:
        names = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        raise InputError(
            "MS-C109",
            f"{len(missing)} of {len(cases)} images have no label map, or more than one: {names}",
            file=path,
            mend="put the label maps beside the images (labelsTr beside imagesTr), or give a CSV list with a label column",
        )
