"""A folder a case with a mask a structure, as TotalSegmentator's datasets lie on a disk: names alone, no image is read.

A missing mask is a fault: nobody says whether the structure is not there or was not looked for.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from medseg.errors import InputError
from medseg.readers.cases.case import Case
from medseg.readers.cases.dataset import dataset_layout
from medseg.readers.cases.grouping import group
from medseg.readers.cases.names import collision_key, safe_name
from medseg.readers.options import ReadOptions
from medseg.training.plan.choice import many
from medseg.training.plan.map_folders import folders_in, holds_scans
from medseg.training.plan.mask_folder import images_in, mask_folder, structures_of
from medseg.training.plan.problems import Problem
from medseg.training.plan.sources import UNNAMED, Source, channels_seen, inner_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

#: So many names stand in one message.
_SHOWN = 5


@dataclass(frozen=True)
class MaskSets:
    """A dataset with a folder of masks a case.

    Args:
        source: its cases, without label maps yet; what is missing, and what was passed over. Its `said` names the structures.
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
    held = {} if root is None else {folder: mask_folder(folder) for folder in folders_in(root)}
    masks = {folder: images_in(inside) for folder, inside in held.items() if inside is not None}
    if root is None or not _is_usual(masks, [folder for folder in held if images_in(folder)]):
        return None
    names = tuple(channels) or channels_seen(root) or UNNAMED
    cases: dict[str, Case] = {}
    called: dict[str, dict[str, Path]] = {}
    problems = list(_unreadable(root))
    for folder in held:
        case = _case(folder, masks.get(folder), names)
        if isinstance(case, Case) and (other := cases.setdefault(collision_key(case.name), case)) is not case:
            what = f"two cases would be called {case.name}: {other.images[0].parent.name} and {folder.name}"
            problems.append(Problem("MS-C102", what, str(folder), "rename one of the folders", case.name))
        elif isinstance(case, Case):
            called[case.name] = dict(zip(structures_of(folder, masks[folder]), masks[folder], strict=True))
        else:
            problems.append(case)
    structures = tuple(sorted({name for one in called.values() for name in one}, key=_in_order))
    problems += _missing(called, structures)
    said = {"labels": {"background": 0} | {name: value for value, name in enumerate(structures, 1)}}
    inner = None if root == data else root
    return MaskSets(Source(data, tuple(cases.values()), names, said, tuple(problems), inner=inner), structures, called)


def require_label_maps(data: Path, channels: Sequence[str] = ()) -> None:
    """A training takes label maps, and the plan has made them.

    Raises:
        InputError: MS-T158 each structure has a mask of its own.
    """
    if find_mask_sets(data, channels) is not None:
        what = "each structure has a mask of its own, and a training takes label maps"
        mend = "name the list that medseg plan made of it, BUNDLE_labels/cases.json"
        raise InputError("MS-T158", what, file=data, mend=mend)


def _root(data: Path) -> Path | None:
    """The folder of the case folders; None where images lie right in it, or it is another layout."""
    inner = inner_of(data)
    if not inner.is_dir() or dataset_layout(inner) is not None:
        return None
    inside = folders_in(inner)
    alone = len(inside) == 1 and mask_folder(inside[0]) is None and not holds_scans(inner)
    root = inside[0] if alone else inner
    return None if holds_scans(root) or dataset_layout(root) is not None else root


def _is_usual(masks: Mapping[Path, Sequence[Path]], with_images: Sequence[Path]) -> bool:
    """Most folders with images have masks, and these are called alike in two of them and not after their cases."""
    names = Counter(name for folder, files in masks.items() for name in {*structures_of(folder, files)})
    both = sum(folder in masks for folder in with_images)
    shared = len(masks) == 1 or max((count for name, count in names.items() if name), default=0) > 1
    return 2 * both > len(with_images) and shared and 2 * names[""] <= len(masks)


def _case(folder: Path, masks: Sequence[Path] | None, channels: tuple[str, ...]) -> Case | Problem:
    """The case of a folder, or why there is none."""
    images, name = images_in(folder), safe_name(folder.name)
    if not images and masks is None:
        what = "passed over: a folder without an image right in it"
        return Problem("MS-T142", what, str(folder), "nothing, unless it should train", note=True)
    if not images:
        what = "masks without an image (NIfTI, NRRD, MetaImage) beside their folder"
        return Problem("MS-T142", what, str(folder), "put the image there, or take the folder out", name)
    if masks is None:
        seen = [one.name for one in sorted(folder.iterdir()) if not one.name.startswith(".")]
        what = f"no folder of masks alone lies beside this image, as beside others; seen: {', '.join(seen[:_SHOWN])}"
        return Problem("MS-T141", what, str(images[0]), "add it, or take the case out", name)
    found = group(images, folder.name, channels, ReadOptions()).cases
    if len(found) != 1:
        what = f"{many(len(found), 'image')} beside one folder of masks: {', '.join(f.name for f in images[:_SHOWN])}"
        return Problem("MS-T141", what, str(folder), "move the others away, or name channels with --channels", name)
    odd = _odd(folder, masks)
    return replace(found[0], name=name) if odd is None else Problem("MS-T157", *odd, name)


def _odd(folder: Path, masks: Sequence[Path]) -> tuple[str, str, str] | None:
    """What is wrong with the names of masks, the file, and the mend."""
    first: dict[str, Path] = {}
    for name, mask in zip(structures_of(folder, masks), masks, strict=True):
        if not name:
            return "called as its case: the name of a mask says its structure", str(mask), "rename it"
        if name.casefold() == "background":
            return "a mask of the background, which is where no mask is", str(mask), "take it out"
        if first.setdefault(name.casefold(), mask) is not mask:
            return f"two masks are called {name}", str(mask), "take one of them out"
    return None


def _missing(masks: Mapping[str, Mapping[str, Path]], structures: Sequence[str]) -> Iterator[Problem]:
    for case, held in masks.items():
        names = [name for name in structures if name not in held]
        shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        folder = str(next(iter(held.values())).parent)
        mend = "add the mask; an empty one says that the structure is not there"
        if names:
            yield Problem("MS-T156", f"no mask of {shown}, which other cases have", folder, mend, case)


def _unreadable(root: Path) -> Iterator[Problem]:
    """Folders that may not be listed: they would be missed without a word."""
    for folder in sorted(one for one in root.iterdir() if one.is_dir() and not one.name.startswith(".")):
        try:
            next(folder.iterdir(), None)
        except OSError as error:
            what = f"this folder cannot be read ({error.strerror})"
            yield Problem("MS-F102", what, str(folder), "give yourself permission to read it", folder.name)


def _in_order(name: str) -> list[tuple[int, int, str]]:
    """`rib_2` before `rib_10`."""
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name.casefold()) if part
    ]
