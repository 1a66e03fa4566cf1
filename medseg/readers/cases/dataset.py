"""Medical Segmentation Decathlon and nnU-Net: dataset.json, and folders imagesTr / labelsTr with or without it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError
from medseg.readers.cases.case import Case
from medseg.readers.cases.grouping import group, wrong_channels
from medseg.readers.cases.names import case_stem, channel_key, has_image_name, stem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.readers.options import ReadOptions

_IMAGES = re.compile(r"images(Tr|Ts|Va|Val)?", re.IGNORECASE)
_KEYS = ("training", "modality", "channel_names", "numTraining", "tensorImageSize")
_SHOWN = 5


def dataset_layout(folder: Path) -> Path | None:
    """The dataset.json or the folder that says how a folder is laid out as a dataset, None when it is not."""
    if (folder / "dataset.json").is_file() and is_dataset_json(folder / "dataset.json"):
        return folder / "dataset.json"
    if _IMAGES.fullmatch(folder.name) and _labels_beside(folder).is_dir():
        return folder
    return folder if _image_folders(folder) else None


def is_dataset_json(path: Path) -> bool:
    """Whether a JSON file is an MSD or nnU-Net dataset.json; a list of cases is not."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return path.name == "dataset.json"
    return isinstance(content, dict) and any(key in content for key in _KEYS)


def dataset_cases(layout: Path, channels: Sequence[str], options: ReadOptions, *, need_labels: bool) -> list[Case]:
    """Training and test cases of a dataset.

    Args:
        layout: a dataset.json, the folder with imagesTr, or an imagesTr folder.
        channels: what the bundle wants.
        options: how to read them.
        need_labels: only the training part; every label map must have its image.

    Raises:
        InputError: MS-C104 dataset.json cannot be used, MS-C105 and MS-C106 its channels are not the bundle's,
            MS-C109 label maps without an image.
    """
    if layout.is_dir():
        return _folders(layout, channels, options, need_labels=need_labels)
    content = dataset_content(layout)
    _require_channels(content, channels, layout)
    listed = content.get("training")
    if not isinstance(listed, list):  # nnU-Net v2 lists nothing
        return _folders(layout.parent, channels, options, need_labels=need_labels)
    rows = [*listed, *([] if need_labels else content.get("test") or [])]
    return [_listed_case(row, layout, channels, options) for row in rows]


def dataset_content(path: Path) -> dict[str, Any]:
    """What a dataset.json says.

    Raises:
        InputError: MS-C104 it is no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        what = f"this dataset.json is no valid JSON ({error})"
        raise InputError("MS-C104", what, file=path, mend="mend it, or name its imagesTr folder instead") from error
    if not isinstance(content, dict):
        raise InputError(
            "MS-C104", "this dataset.json is no object", file=path, mend="name its imagesTr folder instead"
        )
    return content


def _require_channels(content: dict[str, Any], channels: Sequence[str], path: Path) -> None:
    names = content.get("channel_names") or content.get("modality")
    if not isinstance(names, dict) or not names:
        return
    held = [str(names[n]) for n in sorted(names, key=lambda n: int(n) if str(n).isdigit() else 0)]
    wanted, found = ", ".join(channels), ", ".join(held)
    if len(held) != len(channels):
        raise InputError(
            "MS-C105",
            f"the bundle wants {len(channels)} channels: {wanted}; this dataset has {len(held)}: {found}",
            file=path,
            mend=f"give a CSV list with the columns name, {', '.join(channels)} (and label)",
        )
    a, b = [channel_key(c) for c in channels], [channel_key(c) for c in held]
    if a != b and sorted(a) == sorted(b):
        raise InputError(
            "MS-C106",
            f"the bundle wants the channels in the order {wanted}; this dataset has them as {found}",
            file=path,
            mend=f"give a CSV list with the columns name, {', '.join(channels)} (and label)",
        )


def _listed_case(row: Any, path: Path, channels: Sequence[str], options: ReadOptions) -> Case:
    root = path.parent
    image = row.get("image") if isinstance(row, dict) else row
    label = row.get("label") if isinstance(row, dict) else None
    named = image if isinstance(image, list) else [image]
    if not all(isinstance(i, str) and i for i in named) or not (label is None or isinstance(label, str)):
        raise InputError(
            "MS-C104",
            f"an entry of this dataset.json names no image: {str(row)[:80]}",
            file=path,
            mend='write {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}',
        )
    images = tuple(root / str(i) for i in named)
    error = None
    if len(images) == 1 and not images[0].exists():
        images = _numbered_instead(images[0]) or images
    if len(images) not in (1, len(channels)):
        error = wrong_channels(images, channels)
    return Case(case_stem(images[0]), images, root / label if label else None, options, error)


def _numbered_instead(image: Path) -> tuple[Path, ...]:
    # nnU-Net v1 lists 'a.nii.gz' for the files 'a_0000.nii.gz', 'a_0001.nii.gz'.
    name = stem(image)
    end = image.name[len(name) :]
    found = []
    while (file := image.with_name(f"{name}_{len(found):04d}{end}")).exists():
        found.append(file)
    return tuple(found)


def _folders(folder: Path, channels: Sequence[str], options: ReadOptions, *, need_labels: bool) -> list[Case]:
    folders = [folder] if _IMAGES.fullmatch(folder.name) and not _image_folders(folder) else _image_folders(folder)
    if need_labels:
        folders = [f for f in folders if _labels_beside(f).is_dir()] or folders
    return [case for f in folders for case in _paired(f, channels, options, need_labels=need_labels)]


def _paired(images: Path, channels: Sequence[str], options: ReadOptions, *, need_labels: bool) -> list[Case]:
    # In these layouts every file in images* is an image, whatever it is called.
    labels: dict[str, Path] = {}
    beside = _labels_beside(images)
    for file in sorted(beside.iterdir()) if beside.is_dir() else ():
        if has_image_name(file) and not file.name.startswith("."):
            labels.setdefault(case_stem(file), file)
    files = [f for f in sorted(images.iterdir()) if has_image_name(f) and not f.name.startswith(".")]
    cases = group(files, images.resolve().parent.name, channels, options, any_name=True).cases
    extra = sorted(labels.keys() - {case.name for case in cases})
    if extra and need_labels:
        names = ", ".join(extra[:_SHOWN]) + (", ..." if len(extra) > _SHOWN else "")
        raise InputError(
            "MS-C109",
            f"{len(extra)} label maps have no image in {images.name}: {names}",
            file=beside,
            mend="add the images, or move these label maps away",
        )
    return [replace(case, label=labels.get(case.name)) for case in cases]


def _labels_beside(images: Path) -> Path:
    images = images if images.name else images.resolve()
    return images.with_name(re.sub("images", "labels", images.name, count=1, flags=re.IGNORECASE))


def _image_folders(folder: Path) -> list[Path]:
    return [
        f
        for f in sorted(folder.iterdir())
        if _IMAGES.fullmatch(f.name) and f.is_dir() and any(map(has_image_name, f.iterdir()))
    ]
