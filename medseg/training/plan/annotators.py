"""`medseg plan --annotators`: label maps of several annotators are fused, written beside the bundle, and planned with.

Maps are read twice: once to count what the annotators say together, when nothing is written yet, and once to write what was
found to be true. Counted are the voxels in the box around everything that anybody labelled in a case, so that a wider field
of view makes nobody more specific. Voxels that an annotator gave the ignore label are voxels of which they say nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import MedsegError
from medseg.readers.cases.channels import load_case
from medseg.readers.cases.pairing import load_label
from medseg.training.plan.card import markdown_table
from medseg.training.plan.choice import Choice, many
from medseg.training.plan.fusion import (
    SILENT,
    Patterns,
    disagreement,
    fuse,
    patterns_of,
    pooled,
    sensitivity,
    specificity,
)
from medseg.training.plan.look import value_problems
from medseg.training.plan.problems import DatasetError, Problem, problem_of
from medseg.training.plan.written_labels import LIST, map_of, relative, require_empty, row_of
from medseg.writers.atomic import write_json
from medseg.writers.nifti import write_nifti

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from medseg.readers.cases.case import Case
    from medseg.training.plan.fusion import Fused
    from medseg.training.plan.opinions import Opinions
    from medseg.training.plan.sources import Source

#: Of shares, where the maps behind them lie beside the fused ones.
MAPS = "annotators"
_WHY = {
    "mean": "asked for: the shares are learnt as soft labels, and the class with the largest share validates",
    "staple": "asked for: each case by itself, expectation-maximisation of everybody's confusion matrix (Warfield 2004)",
    "dawid-skene": "asked for: one confusion matrix an annotator in all cases, by expectation-maximisation (Dawid & Skene 1979)",
}


@dataclass(frozen=True)
class Agreement:
    """What was learnt of the annotators.

    Args:
        method: how their maps were fused.
        who: their names.
        values: label value of each class, 0 first.
        cases: how many each of them labelled.
        confusion: (R, C, C) voxels by annotator, fused class and answer.
        disagreement: case -> share of the labelled voxels on which they do not agree.
        whole: the same of all cases together.
    """

    method: str
    who: tuple[str, ...]
    values: tuple[int, ...]
    cases: tuple[int, ...]
    confusion: np.ndarray
    disagreement: Mapping[str, float]
    whole: float

    def choice(self) -> Choice:
        """For the report's decisions."""
        value = f"{len(self.who)} annotators ({', '.join(self.who)}) fused by {self.method}"
        why = f"{_WHY[self.method]}; they disagree on {100 * self.whole:.2g} % of what anybody labelled"
        return Choice("annotators", value, why)


def fuse_dataset(
    opinions: Opinions,
    method: str,
    folder: Path,
    *,
    known: Collection[int] = (),
    ignore: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Source, Agreement]:
    """Fuse the label maps of a dataset and write them, with a list of cases that `medseg train` takes.

    Args:
        opinions: from `find_opinions`.
        method: one of `fusion.METHODS`.
        folder: new or empty; takes `cases.json`, `labels/CASE.nii.gz` and, of 'mean', `annotators/CASE.nii.gz` with a
            channel an annotator.
        known: label values that dataset.json names; () accepts any.
        ignore: the value of voxels of which an annotator says nothing.
        progress: called with (readings done, in all).

    Returns:
        The dataset with the fused label maps, and what was learnt of the annotators.

    Raises:
        DatasetError: MS-T140 with every map that cannot be used; nothing was written.
        OutputError: MS-T152 the folder holds something already.
    """
    require_empty(folder)
    cases, total = opinions.source.cases, 2 * len(opinions.source.cases)
    problems, each = list(opinions.source.problems), {}
    for n, case in enumerate(cases, 1):
        found, wrong = _counted(case, opinions, known, ignore)
        problems += wrong
        each |= {} if found is None else {case.name: found}
        _tell(progress, n, total)
    if any(not problem.note for problem in problems):
        raise DatasetError(problems, opinions.source.path)
    values = sorted({0} | {int(v) for one in each.values() for v in np.unique(one.answers) if v != SILENT})
    each = {name: _as_classes(one, values) for name, one in each.items()}
    fused, confusion = _fused(each, len(values), method)
    lookup = np.array([*values, ignore or 0])  # the last one is SILENT's
    rows = []
    for n, case in enumerate(cases, 1):
        rows.append(_write(case, opinions, lookup[fused[case.name]], folder, ignore, soft=method == "mean"))
        _tell(progress, len(cases) + n, total)
    write_json(folder / LIST, {"cases": rows})
    labelled = tuple(sum(who in opinions.maps[case.name] for case in cases) for who in opinions.who)
    apart = {name: disagreement(one) for name, one in each.items()}
    whole = disagreement(pooled(list(each.values())))
    agreement = Agreement(method, opinions.who, tuple(values), labelled, confusion, apart, whole)
    made = tuple(replace(case, label=map_of(folder, case)) for case in cases)
    return replace(opinions.source, cases=made, problems=(), soft=method == "mean"), agreement


def _counted(
    case: Case, opinions: Opinions, known: Collection[int], ignore: int | None
) -> tuple[Patterns | None, list[Problem]]:
    """What annotators say together in a case, in values of files; and what is wrong with their maps."""
    maps = opinions.maps[case.name]
    try:
        image = load_case(case, opinions.source.channels)
    except MedsegError as error:
        return None, [problem_of(error, case.name, case.images[0] if case.images else None)]
    problems: list[Problem] = []
    arrays: dict[str, np.ndarray] = {}
    for who, file in maps.items():
        one = replace(case, label=file)
        try:
            arrays[who] = load_label(one, image).array
        except MedsegError as error:
            problems.append(problem_of(error, case.name, file))
            continue
        allowed = known if ignore is None or not known else {*known, ignore}
        problems += [p for p in value_problems(arrays[who], one, allowed, allow_empty=True) if not p.note]
    if problems or not arrays:
        return None, problems
    patterns, _, _ = _patterns(arrays, opinions, ignore)
    return patterns, []


def _patterns(
    arrays: Mapping[str, np.ndarray], opinions: Opinions, ignore: int | None
) -> tuple[Patterns, np.ndarray, tuple[slice, ...]]:
    """Patterns in the box around all labels, which of them each voxel in it is, and the box."""
    marked = np.logical_or.reduce([array != 0 for array in arrays.values()])
    sides = [np.flatnonzero(marked.any(axis=(*range(axis), *range(axis + 1, 3)))) for axis in range(3)]
    box = tuple(slice(int(side[0]), int(side[-1]) + 1) if len(side) else slice(0, 0) for side in sides)
    said = [_said(arrays[who][box], ignore) if who in arrays else None for who in opinions.who]
    patterns, index = patterns_of(said)
    return patterns, index, box


def _said(array: np.ndarray, ignore: int | None) -> np.ndarray:
    answers = array.astype(np.int64)
    return answers if ignore is None else np.where(array == ignore, SILENT, answers)


def _as_classes(patterns: Patterns, values: list[int]) -> Patterns:
    """Values of files as 0, 1, 2 ..."""
    places = np.searchsorted(values, patterns.answers)
    return Patterns(np.where(patterns.answers == SILENT, SILENT, places), patterns.counts)


def _fused(each: Mapping[str, Patterns], classes: int, method: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Case -> the class of each of its patterns; and the confusion matrices of all cases together."""
    if method != "dawid-skene":
        found: dict[str, Fused] = {name: fuse(one, classes, method) for name, one in each.items()}
        confusion = np.sum([one.confusion for one in found.values()], 0)
        return {name: one.classes for name, one in found.items()}, confusion
    together = pooled(list(each.values()))
    whole = fuse(together, classes, method)
    row = {tuple(answers): int(c) for answers, c in zip(together.answers.tolist(), whole.classes, strict=True)}
    told = {name: np.array([row[tuple(a)] for a in one.answers.tolist()], np.int64) for name, one in each.items()}
    return told, whole.confusion


def _write(
    case: Case, opinions: Opinions, values: np.ndarray, folder: Path, ignore: int | None, *, soft: bool
) -> dict[str, Any]:
    """Write a case's fused map, and of shares what they are made of; its row in the list of cases."""
    image = load_case(case, opinions.source.channels)
    arrays = {who: load_label(replace(case, label=file), image).array for who, file in opinions.maps[case.name].items()}
    _, index, box = _patterns(arrays, opinions, ignore)
    map_ = np.zeros(image.grid.shape, np.uint8 if values.max(initial=0) <= 255 else np.uint16)
    map_[box] = values[index].reshape(map_[box].shape)
    write_nifti(map_of(folder, case), map_, image.affine, description="fused labels")
    row = row_of(folder, case)
    if soft:
        behind = folder / MAPS / f"{case.name}.nii.gz"
        held = list(arrays.values())
        stacked = np.stack(held) if len(held) > 1 else held[0]  # a file of one channel has no axis for it
        write_nifti(behind, stacked, image.affine, description="label maps of annotators")
        row[MAPS] = relative(behind, folder)
    return row


def _tell(progress: Callable[[int, int], None] | None, done: int, of: int) -> None:
    if progress is not None:
        progress(done, of)


def agreement_text(found: Agreement, names: Mapping[int, str]) -> str:
    """The report's section in Markdown; `names` of the label values."""
    right, spared = sensitivity(found.confusion), specificity(found.confusion)
    columns = ("annotator", "cases", "structure", "sensitivity", "specificity")
    rows = [
        (who, found.cases[r], names.get(value, f"label {value}"), _number(right[r, c]), _number(spared[r, c]))
        for r, who in enumerate(found.who)
        for c, value in enumerate(found.values)
        if value
    ]
    worst = sorted(found.disagreement.items(), key=lambda pair: -pair[1])[:5]
    said = (
        f"Fused by {found.method}; {_WHY[found.method].removeprefix('asked for: ')}. Sensitivity and specificity are "
    )
    said += "measured against the fused labels, in the boxes around everything that anybody labelled"
    said += f" ({many(len(found.disagreement), 'case')}).\n\n"
    told = f"\nThey disagree on {100 * found.whole:.3g} % of the voxels that anybody labelled; most in: "
    told += ", ".join(f"{name} ({100 * share:.3g} %)" for name, share in worst) + ".\n"
    return said + markdown_table(columns, rows) + told


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.4f}"
