"""The masks of every case merged into label maps, which a network with one output a voxel learns from.

Each mask is read once. A structure has the same value everywhere: the place of its name among all names. Where masks claim a
voxel together it goes to the smallest of these structures, which would lose most by it; masks that share more than a few are
nested or wrong, and that is a fault.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import InputError, MedsegError
from medseg.labels import LabelTable
from medseg.readers.cases.channels import load_case
from medseg.readers.cases.pairing import load_label
from medseg.training.plan.choice import Choice, many
from medseg.training.plan.mask_cut import common, cut_of
from medseg.training.plan.problems import DatasetError, Problem, problem_of
from medseg.training.plan.written_labels import LIST, map_of, require_empty, row_of
from medseg.writers.atomic import write_json
from medseg.writers.nifti import write_nifti

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from medseg.readers.cases.case import Case
    from medseg.training.plan.mask_cut import Cut
    from medseg.training.plan.mask_sets import MaskSets
    from medseg.training.plan.sources import Source
    from medseg.volume import Volume

#: Masks may share so much of the smaller one; beyond it one lies in the other, or one is wrong.
SHARED = 0.1
_MOST = 255
_SHOWN = 5


@dataclass
class _Shared:
    """Voxels that several masks of a case claim, of how many labelled ones in all cases."""

    voxels: int = 0
    labelled: int = 0


def merge_masks(
    sets: MaskSets, folder: Path, *, progress: Callable[[int, int], None] | None = None
) -> tuple[Source, Choice]:
    """Merge the masks of every case and write them, with a list of cases that `medseg train` takes.

    Args:
        sets: from `find_mask_sets`.
        folder: new or empty; takes `cases.json` and `labels/CASE.nii.gz`, which names its structures.
        progress: called with (cases merged, in all).

    Returns:
        The dataset with the merged label maps, and a line for the report.

    Raises:
        DatasetError: MS-T140 with every mask that cannot be used.
        InputError: MS-T150 more structures than a label map holds.
        OutputError: MS-T152 the folder holds something already.
    """
    source, structures = sets.source, sets.structures
    if len(structures) > _MOST:
        what = f"{len(structures)} structures, and the labels of a bundle end at {_MOST}"
        raise InputError("MS-T150", what, file=source.path, mend="take out the masks that are not to be learnt")
    require_empty(folder)
    table, shared = LabelTable.from_names(structures), _Shared()
    problems = list(source.problems)
    for n, case in enumerate(source.cases, 1):
        try:
            image = load_case(case, source.channels)
            merged, wrong = _merged(case, image, sets.masks[case.name], structures, shared)
        except MedsegError as error:
            problems.append(problem_of(error, case.name, case.images[0]))
        else:
            problems += wrong
            if all(problem.note for problem in problems):
                write_nifti(map_of(folder, case), merged, image.affine, labels=table, description="merged masks")
        if progress is not None:
            progress(n, len(source.cases))
    if not all(problem.note for problem in problems):
        raise DatasetError(problems, source.path)
    write_json(folder / LIST, {"cases": [row_of(folder, case) for case in source.cases]})
    made = tuple(replace(case, label=map_of(folder, case)) for case in source.cases)
    return replace(source, cases=made), _choice(len(structures), folder, shared)


def _merged(
    case: Case, image: Volume, masks: Mapping[str, Path], structures: Sequence[str], shared: _Shared
) -> tuple[np.ndarray, list[Problem]]:
    """The label map of a case, and which of its masks cannot be used."""
    out = np.zeros(image.grid.shape, np.uint8)
    sizes = np.zeros(len(structures) + 1, np.int64)
    held: dict[int, Cut] = {}
    together = np.zeros(image.grid.shape, bool)
    problems = []
    for name, file in masks.items():
        try:
            mask = load_label(replace(case, label=file), image).array
        except MedsegError as error:
            problems.append(problem_of(error, case.name, file))
            continue
        inside = mask != 0
        if np.count_nonzero(inside) != np.count_nonzero(mask == mask.max()) and mask.any():
            problems.append(_several(case, file, mask))
            continue
        cut, value = cut_of(inside), structures.index(name) + 1
        size = sizes[value] = np.count_nonzero(inside)
        there = out[inside]
        if there.any():
            for other, part in held.items():
                count = common(cut, part)
                if count > SHARED * min(size, sizes[other]):
                    problems.append(_overlap(case, file, structures[other - 1], count, count / min(size, sizes[other])))
            together[inside] |= there != 0
        out[inside] = np.where((there == 0) | (sizes[there] > size), value, there)
        held[value] = cut
    if not problems:
        problems += _eaten(case, masks, structures, sizes, np.bincount(out.ravel(), minlength=len(sizes)))
    shared.voxels += int(np.count_nonzero(together))
    shared.labelled += int(np.count_nonzero(out))
    return out, problems


def _several(case: Case, file: Path, mask: np.ndarray) -> Problem:
    values = ", ".join(map(str, np.unique(mask)[1:][:_SHOWN]))
    mend = (
        "write each structure into a mask of its own; or, if it is a label map, put it beside its image as <image>_seg"
    )
    return Problem("MS-T157", f"a mask has one value beside 0, this file holds {values}", str(file), mend, case.name)


def _overlap(case: Case, file: Path, other: str, count: int, share: float) -> Problem:
    what = f"it shares {many(count, 'voxel')} with {other}, {100 * share:.3g} % of the smaller one"
    mend = "take these voxels out of one; for structures in one another write a label map, with regions in dataset.json"
    return Problem("MS-T157", what, str(file), mend, case.name)


def _eaten(
    case: Case, masks: Mapping[str, Path], structures: Sequence[str], sizes: np.ndarray, left: np.ndarray
) -> list[Problem]:
    """Structures of which many others together leave too little."""
    return [
        Problem(
            "MS-T157",
            f"smaller structures claim {sizes[value] - left[value]} of its {sizes[value]} voxels",
            str(masks[structures[value - 1]]),
            "take the voxels out of one of each two; or write a label map, with regions in dataset.json",
            case.name,
        )
        for value in range(1, len(sizes))
        if sizes[value] - left[value] > SHARED * sizes[value]
    ]


def _choice(structures: int, folder: Path, shared: _Shared) -> Choice:
    why = "each structure of a case has a file of its own, and a network with one output a voxel learns from one label map"
    if shared.voxels:
        share = 100 * shared.voxels / max(shared.labelled, 1)
        why += f"; {many(shared.voxels, 'voxel')} ({share:.2g} % of the labelled ones) that several masks claim are the smallest one's"
    return Choice("label maps", f"{many(structures, 'mask')} a case, merged in {folder.name}", why)
