"""Which cases train and which validate: named by the bundle, else drawn by a seed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError
from medseg.readers.cases.names import safe_name
from medseg.readers.cases.table import table_rows
from medseg.training.plan.mask_sets import require_label_maps
from medseg.training.plan.sources import find_source, is_json_dataset
from medseg.training.plan.which_maps import map_choices
from medseg.training.sides import subjects_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FOLDERS = (("imagesTr", "labelsTr"), ("images", "labels"))
SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")


def datalist(
    folder: str,
    part: str,
    validation: Sequence[str] = (),
    fraction: float = 0.2,
    seed: int = 0,
    channels: Sequence[str] = (),
    at_least: int = 0,
    annotators: bool = False,
) -> list[dict[str, Any]]:
    """Images with labels of `folder`/imagesTr and labelsTr (or images and labels), as MONAI's data list of one part.

    Args:
        folder: an MSD or nnU-Net style folder, or one with images and labels; with `channels` whatever `medseg plan`
            understands, lists too.
        part: 'train' or 'val'.
        validation: names of the cases held out. Where none of them is in the folder (somebody else's data),
            `fraction` of the cases, drawn by `seed`, is held out instead, of one subject (`sides.subjects_of`) all or none.
        fraction: share of the cases held out when none is named.
        seed: of that draw.
        channels: names of the image's channels; () where there is one, in files right in the folder.
        at_least: cases are repeated, in turn, until there are so many.
        annotators: add the file of annotators' label maps that a list of `medseg plan --annotators mean` names.

    Returns:
        `{"image": path, "label": path}` for every case, ordered by name; of several channels a list of paths.

    Raises:
        InputError: the folder holds no labelled case (MS-T101), an image has no label (MS-T102), or each structure has a mask of
            its own (MS-T158).
    """
    pairs = named_cases(folder, channels)
    if annotators:
        behind = _annotators(Path(folder))
        pairs = {name: pair | behind.get(name, {}) for name, pair in pairs.items()}
    held_out = set(validation) & set(pairs)
    if not held_out:
        held_out = _drawn(pairs, fraction, seed)
    wanted = [pair for name, pair in pairs.items() if (name in held_out) == (part == "val")]
    rounds = -(-at_least // len(wanted)) if wanted else 1
    return (wanted * rounds)[:at_least] if rounds > 1 else wanted


def named_cases(folder: str, channels: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Name -> image and label of every case of `datalist`, by the names that its `validation` knows.

    Raises:
        InputError: as `datalist`.
    """
    return _cases(folder, channels) if channels else _files(folder)


def told_of(folder: str, channels: Sequence[str]) -> list[str]:
    """What had to be chosen or was passed over in a folder, a line each; [] where all is plain."""
    if not channels:
        return []
    source = find_source(Path(folder), channels)
    notes = [f"{problem.case or problem.file}: {problem.what}" for problem in source.problems if problem.note]
    return [*(f"{one.topic}: {one.value} ({one.why})" for one in map_choices(source.cases, source.kind)), *notes]


def _drawn(pairs: Mapping[str, Mapping[str, Any]], fraction: float, seed: int) -> set[str]:
    """A share of the cases, whole subjects."""
    names = sorted(pairs)
    subjects = subjects_of(pairs.values())
    wanted = max(1, round(fraction * len(names)))
    of_subject: dict[str, list[str]] = {}
    for name in names:
        of_subject.setdefault(subjects[str(pairs[name]["label"])], []).append(name)
    if len(of_subject) == len(names):
        return set(random.Random(seed).sample(list(names), wanted))
    order = sorted(of_subject)
    random.Random(seed).shuffle(order)
    held: set[str] = set()
    for subject in order:
        if len(held) < wanted and len(held) + len(of_subject[subject]) < len(names):
            held.update(of_subject[subject])
    return held


def _files(folder: str) -> dict[str, dict[str, Any]]:
    """Name -> image and label, of files right in the two folders."""
    of_images, of_labels = next((pair for pair in FOLDERS if Path(folder, pair[0]).is_dir()), FOLDERS[0])
    images, labels = (
        {_stem(p): p for p in sorted(Path(folder, part).glob("[!.]*")) if p.name.endswith(SUFFIXES)}
        for part in (of_images, of_labels)
    )
    if not images:
        raise InputError(
            "MS-T101", "no images in imagesTr", file=folder, mend="put images into imagesTr and labels into labelsTr"
        )
    alone = sorted(set(images) - set(labels))
    if alone:
        raise InputError(
            "MS-T102", f"{len(alone)} images have no label, first {alone[0]}", file=folder,
            mend=f"add the missing files to {of_labels}, or take the images out",
        )  # fmt: skip
    return {name: {"image": str(image), "label": str(labels[name])} for name, image in images.items()}


def _cases(folder: str, channels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Name -> image or images and label, of whatever `medseg plan` understands."""
    source = find_source(Path(folder), channels)
    faults = [problem for problem in source.problems if not problem.note]
    if faults:
        require_label_maps(Path(folder), channels)
        first = faults[0]
        raise InputError(
            "MS-T102", f"{len(faults)} problems, the first: {first.what}", file=first.file, mend=first.mend
        )
    images = {case.name: [str(path) for path in case.images] for case in source.cases}
    return {
        case.name: {
            "image": images[case.name] if len(case.images) > 1 else images[case.name][0],
            "label": str(case.label),
        }
        for case in sorted(source.cases, key=lambda case: case.name)
    }


def _annotators(listed: Path) -> dict[str, dict[str, str]]:
    """Name -> what a list says of annotators' label maps; {} for other data, whose label maps speak for themselves."""
    if not listed.is_file() or is_json_dataset(listed):
        return {}
    rows = [row for row in table_rows(listed) if row.get("name") and row.get("annotators")]
    return {safe_name(str(row["name"])): {"annotators": str(listed.parent / row["annotators"])} for row in rows}


def _stem(path: Path) -> str:
    name = path.name
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return name.removesuffix("_0000")
