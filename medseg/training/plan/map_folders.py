"""Folders of label maps among those of a dataset, which are passed over with a note."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.readers.cases.names import has_image_name, is_label_name
from medseg.training.plan.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.readers.cases.case import Case


def folders_in(root: Path) -> list[Path]:
    """The visible folders right in a folder, by name."""
    return [folder for folder in sorted(root.iterdir()) if folder.is_dir() and not folder.name.startswith(".")]


def holds_images(folder: Path) -> bool:
    """Whether an image that is not called a label map lies right in a folder."""
    return any(has_image_name(file) and not is_label_name(file) for file in folder.iterdir())


def holds_maps_alone(folder: Path) -> bool:
    """Whether a folder and all its images are called label maps, as lesion_masks with p1_mask and p2_mask."""
    if not is_label_name(folder):
        return False
    images = [file for file in folder.rglob("[!.]*") if has_image_name(file)]
    return bool(images) and all(map(is_label_name, images))


def without_masks(cases: Sequence[Case], root: Path) -> tuple[list[Case], list[Problem]]:
    """The cases without those of folders called label maps beside images, such as case_seg with liver and spleen.

    Args:
        cases: found below `root`.
        root: a folder.

    Returns:
        The others, and a note for each such folder. Of one that holds a label map for an image of its own nothing is left out.
    """
    inside: dict[Path, list[Case]] = {}
    for case in cases:
        folder = _called_maps(case, root)
        if folder is not None:
            inside.setdefault(folder, []).append(case)
    masks = {folder: held for folder, held in inside.items() if not any(case.maps for case in held)}
    out = {case.name for held in masks.values() for case in held}
    return [case for case in cases if case.name not in out], [passed_over(folder) for folder in masks]


def passed_over(folder: Path) -> Problem:
    """MS-T142, a note."""
    count = sum(map(has_image_name, folder.rglob("[!.]*")))
    what = f"passed over: a folder called like label maps, which belong to no image here ({count} files)"
    return Problem("MS-T142", what, str(folder), "nothing, unless they should train", note=True)


def _called_maps(case: Case, root: Path) -> Path | None:
    """The highest folder below `root` around a case that is called label maps and lies beside images."""
    around = [folder for image in case.images[:1] for folder in image.parents if folder.is_relative_to(root)]
    return next(
        (one for one in reversed(around) if one != root and is_label_name(one) and holds_images(one.parent)), None
    )
