"""A folder a case with a mask a structure, as TotalSegmentator's datasets lie on a disk: names alone, no image is read.

A missing mask is a fault: nobody says whether the structure is not there or was not looked for.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from medseg.readers.cases.dataset import dataset_layout
from medseg.readers.cases.grouping import group
from medseg.readers.cases.names import has_image_name, is_label_name, safe_name, stem
from medseg.readers.options import ReadOptions
from medseg.training.plan.choice import many
from medseg.training.plan.map_folders import folders_in, holds_images, holds_scans
from medseg.training.plan.problems import Problem
from medseg.training.plan.sources import UNNAMED, Source, channels_seen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from medseg.readers.cases.case import Case

#: So many names stand in one message.
_SHOWN = 5


@dataclass(frozen=True)
class MaskSets:
    """A dataset with a folder of masks a case.

    Args:
        source: its cases, without label maps yet; what is missing, and what was passed over.
        structures: the names of all masks; a structure's value is its place, from 1.
        masks: case -> structure -> file.
    """

    source: Source
    structures: tuple[str, ...]
    masks: Mapping[str, Mapping[str, Path]]


def find_mask_sets(data: Path, channels: Sequence[str] = ()) -> MaskSets | None:
    """Look at names only; None where a dataset is laid out otherwise.

    Args:
        data: what the user named; the folder of the cases, or one around it.
        channels: their names; () takes those of files that most case folders have.
    """
    root = _root(data) if data.is_dir() else None
    if root is None:
        return None
    held = {folder: mask_folder(folder) for folder in folders_in(root)}
    if not any(masks is not None and holds_images(folder) for folder, masks in held.items()):
        return None
    names = tuple(channels) or channels_seen(root) or UNNAMED
    cases: list[Case] = []
    masks: dict[str, dict[str, Path]] = {}
    problems: list[Problem] = []
    for folder, inside in held.items():
        case, wrong = _case(folder, inside, names)
        problems += wrong
        if case is not None and inside is not None:
            cases.append(case)
            masks[case.name] = {stem(file): file for file in masks_in(inside)}
    structures = tuple(sorted({name for one in masks.values() for name in one}, key=_in_order))
    problems += [
        _missing(case, masks[case.name], structures) for case in cases if len(masks[case.name]) < len(structures)
    ]
    source = Source(data, tuple(cases), names, {}, tuple(problems), inner=None if root == data else root)
    return MaskSets(source, structures, masks)


def mask_folder(folder: Path) -> Path | None:
    """The one folder of masks in a case's folder.

    Args:
        folder: of the case.

    Returns:
        The only folder in it, where that is called label maps (segmentations, masks, labels) and holds images. None where
        there are other folders, or where label maps lie beside it right in `folder`.
    """
    visible = [one for one in folder.iterdir() if not one.name.startswith(".")]
    inside = [one for one in visible if one.is_dir()]
    if len(inside) != 1 or not is_label_name(inside[0]) or not masks_in(inside[0]):
        return None
    return None if any(has_image_name(one) and is_label_name(one) for one in visible if one.is_file()) else inside[0]


def masks_in(folder: Path) -> list[Path]:
    """Images right in a folder of masks, by name; of a pair .hdr and .img the header."""
    files = sorted(f for f in folder.iterdir() if f.is_file() and not f.name.startswith(".") and has_image_name(f))
    return [f for f in files if not f.name.lower().endswith((".img", ".img.gz"))]


def _root(data: Path) -> Path | None:
    """The folder of the case folders; None where images lie right in it, or it is another layout."""
    inside = folders_in(data)
    alone = len(inside) == 1 and mask_folder(inside[0]) is None and not holds_scans(data)
    root = inside[0] if alone else data
    return None if holds_scans(root) or dataset_layout(root) is not None else root


def _case(folder: Path, masks: Path | None, channels: tuple[str, ...]) -> tuple[Case | None, list[Problem]]:
    images = [f for f in sorted(folder.iterdir()) if f.is_file() and not f.name.startswith(".") and has_image_name(f)]
    if not images:
        what = "passed over: a folder without an image right in it"
        return None, [Problem("MS-T142", what, str(folder), "nothing, unless it should train", note=True)]
    name = safe_name(folder.name)
    found = group(images, folder.name, channels, ReadOptions()).cases
    if masks is None:
        what = "this image has no folder of masks, as others have"
        return None, [Problem("MS-T141", what, str(images[0]), "add it, or take the image out", name)]
    if len(found) != 1:
        what = f"{many(len(found), 'image')} beside one folder of masks: {', '.join(f.name for f in images[:_SHOWN])}"
        mend = "move the others away, or name channels with --channels"
        return None, [Problem("MS-T141", what, str(folder), mend, name)]
    case = replace(found[0], name=name)
    twice = [one for one, count in Counter(stem(file).casefold() for file in masks_in(masks)).items() if count > 1]
    if twice:
        what = f"two masks are called {twice[0]}"
        return None, [Problem("MS-T157", what, str(masks), "take one of them out", name)]
    return case, []


def _missing(case: Case, masks: Mapping[str, Path], structures: Sequence[str]) -> Problem:
    names = [name for name in structures if name not in masks]
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    folder = next(iter(masks.values())).parent
    mend = "add the mask; an empty one says that the structure is not there"
    return Problem("MS-T156", f"no mask of {shown}, which other cases have", str(folder), mend, case.name)


def _in_order(name: str) -> list[tuple[int, int, str]]:
    """`rib_2` before `rib_10`."""
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name.casefold()) if part
    ]
