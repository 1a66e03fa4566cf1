"""Before anything is trained: no subject and no image both trains and validates.

Subjects are those of BIDS' names (`sub-XX`), else of DICOM's PatientID; images are compared voxel by voxel where two have one shape. (`--folds` and
`medseg plan` know subjects of lists too, and read every case.)
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError

from medseg.readers.cases.names import case_stem
from medseg.readers.open import read
from medseg.training.patients import same_patients
from medseg.training.plan.problems import DatasetError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_BIDS = re.compile(r"sub-[A-Za-z0-9]+")


def subject_of(path: str | Path) -> str:
    """Whose a label map is: BIDS' subject, else the case's own name; in a folder of case folders that of its folder."""
    name, folder = case_stem(Path(path)), Path(path).parent.name
    found = _BIDS.search(name)
    if found:
        return found[0]
    return name if not folder or folder.startswith("labels") else f"{folder}/{name}"


def subjects_of(cases: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Whose the cases are.

    Args:
        cases: `{"image": path or paths, "label": path}` each.

    Returns:
        label map -> subject, as `subject_of`; of cases whose PatientID says that they are one patient's that of the first.
    """
    files = {str(one["label"]): [Path(path) for path in _files(one)] for one in cases}
    first = same_patients({label: paths for label, paths in files.items() if not _BIDS.search(case_stem(Path(label)))})
    return {label: subject_of(first.get(label, label)) for label in files}


def check_sides(train: Sequence[Mapping[str, Any]], validation: Sequence[Mapping[str, Any]], data: Path) -> None:
    """Refuse a split that tells the validation what it is to find out.

    Args:
        train: `{"image": path or paths, "label": path}` each.
        validation: likewise.
        data: what they come from.

    Raises:
        DatasetError: MS-T140 with every case that is on both sides: MS-T146 its subject, MS-T145 its image.
        InputError: a scan cannot be read.
    """
    problems: list[Problem] = []
    subjects = subjects_of((*train, *validation))
    by_subject = {subjects[str(one["label"])]: one for one in train}
    by_shape: dict[tuple[int, ...], list[Mapping[str, Any]]] = {}
    for one in {str(one["image"]): one for one in train}.values():
        by_shape.setdefault(_shape(one), []).append(one)
    digests: dict[str, str] = {}
    for one in validation:
        image = str(_files(one)[0])
        subject = subjects[str(one["label"])]
        if subject in by_subject:
            what = f"subject {subject} validates here and trains with {_name(by_subject[subject])}"
            problems.append(Problem("MS-T146", what, image, "put all cases of a subject on one side", _name(one)))
        for other in by_shape.get(_shape(one), ()):
            if _digest(one, digests) == _digest(other, digests):
                what = f"the same image as {_name(other)}, voxel for voxel; one trains, the other validates"
                problems.append(Problem("MS-T145", what, image, "take one of the two out", _name(one)))
    if problems:
        raise DatasetError(problems, data)


def _name(case: Mapping[str, Any]) -> str:
    return case_stem(Path(str(case["label"])))


def _files(case: Mapping[str, Any]) -> list[str]:
    image = case["image"]
    return [image] if isinstance(image, str) else [str(path) for path in image]


def _shape(case: Mapping[str, Any]) -> tuple[int, ...]:
    """Of the first file; what nibabel does not know is read."""
    path = _files(case)[0]
    try:
        return tuple(int(n) for n in sorted(nib.load(path).shape))  # type: ignore[attr-defined]
    except (ImageFileError, OSError, EOFError, ValueError):
        return tuple(sorted(read(path).array.shape))


def _digest(case: Mapping[str, Any], known: dict[str, str]) -> str:
    """Of the grey values, as `medseg plan` takes it but in the file's own order of axes."""
    key = str(case["image"])
    if key not in known:
        digest = hashlib.sha256()
        for path in _files(case):
            array = read(path).array
            digest.update(str(array.shape).encode() + np.ascontiguousarray(array, np.float32).tobytes())
        known[key] = digest.hexdigest()
    return known[key]
