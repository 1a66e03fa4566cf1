"""What a dataset's walk passes over, each with a note: folders of masks, and what lies beside the folder of the dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.errors import InputError
from medseg.readers.cases.names import belongs_to, has_dicom_name, has_image_name, is_label_name, stem
from medseg.readers.sniff import sniff
from medseg.training.plan.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.readers.cases.case import Case

#: Ends of what lies beside scans and is none.
_PAPERS = (".txt", ".md", ".csv", ".tsv", ".json", ".yaml", ".pdf", ".png", ".jpg", ".docx", ".xlsx")
_MEND = "nothing, unless they should train"


def folders_in(root: Path) -> list[Path]:
    """The visible folders right in a folder, by name, that hold more than papers."""
    visible = (one for one in sorted(root.iterdir()) if one.is_dir() and not one.name.startswith((".", "__MACOSX")))
    return [folder for folder in visible if any(map(_may_be_scan, folder.rglob("[!.]*")))]


def holds_scans(folder: Path) -> bool:
    """Whether an image file or a slice of DICOM lies right in a folder."""
    return any(has_image_name(file) or has_dicom_name(file) or _is_dicom(file) for file in _files(folder))


def holds_images(folder: Path) -> bool:
    """Whether an image that is not called a label map lies right in a folder."""
    return any(has_image_name(file) and not is_label_name(file) for file in _files(folder))


def holds_maps_alone(folder: Path) -> bool:
    """Whether a folder and all its images are called label maps, as lesion_masks with p1_mask and p2_mask."""
    if not is_label_name(folder):
        return False
    scans = [file for file in folder.rglob("[!.]*") if _may_be_scan(file)]
    return bool(scans) and all(has_image_name(file) and is_label_name(file) for file in scans)


def without_masks(cases: Sequence[Case], root: Path) -> tuple[list[Case], list[Problem]]:
    """The cases without those of folders called label maps beside images, such as case_seg with liver and spleen.

    Args:
        cases: found below `root`.
        root: a folder.

    Returns:
        The others, and a note for each such folder. Of one that holds a label map for an image of its own nothing is left out.
    """
    around = [_called_maps(case, root) for case in cases]
    own = {folder for case, folder in zip(cases, around, strict=True) if _is_labelled(case)}
    masks = {folder: True for folder in around if folder is not None and folder not in own}
    kept = [case for case, folder in zip(cases, around, strict=True) if folder not in masks]
    return kept, [_passed_over(folder, "called like label maps, which belong to no image here") for folder in masks]


def notes_beside(data: Path, inner: Path) -> list[Problem]:
    """Notes of what lies in a folder beside the one in it that alone is looked through."""
    if inner == data:
        return []
    others = [folder for folder in folders_in(data) if folder != inner]
    notes = [_passed_over(folder, f"beside {inner.name}, from which alone is learnt") for folder in others]
    if holds_scans(data):
        what = f"the images right in this folder are passed over: only {inner.name} is learnt from"
        notes.append(Problem("MS-T142", what, str(data), _MEND, note=True))
    return notes


def _passed_over(folder: Path, why: str) -> Problem:
    count = sum(map(_may_be_scan, folder.rglob("[!.]*")))
    what = f"passed over, {count} file{'' if count == 1 else 's'}: a folder {why}"
    return Problem("MS-T142", what, str(folder), _MEND, note=True)


def _called_maps(case: Case, root: Path) -> Path | None:
    """The highest folder below `root` around a case that is called label maps and lies beside images."""
    around = [folder for image in case.images[:1] for folder in image.parents if folder.is_relative_to(root)]
    return next(
        (one for one in reversed(around) if one != root and is_label_name(one) and holds_images(one.parent)), None
    )


def _is_labelled(case: Case) -> bool:
    return any(belongs_to(stem(file), stem(image)) for file in case.maps for image in case.images)


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if file.is_file() and not file.name.startswith(".")]


def _may_be_scan(path: Path) -> bool:
    return path.is_file() and not path.name.lower().endswith(_PAPERS)


def _is_dicom(file: Path) -> bool:
    try:
        return not file.name.lower().endswith(_PAPERS) and sniff(file) == "dicom"
    except InputError:
        return False
