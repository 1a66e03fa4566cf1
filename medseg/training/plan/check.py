"""Is this dataset fit to train on: every case read, every problem named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import MedsegError
from medseg.training.plan.classes import known_values
from medseg.training.plan.look import look_at
from medseg.training.plan.own_names import naming_problems
from medseg.training.plan.problems import Problem, faults_first, problem_of
from medseg.training.plan.split import Split, read_split, split_problems

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from medseg.readers.cases.case import Case
    from medseg.training.plan.look import Facts
    from medseg.training.plan.sources import Source

#: A voxel spacing this many times the dataset's median, or its inverse, is worth a look.
_UNUSUAL = 4.0


def check_dataset(
    source: Source,
    known: Collection[int] = (),
    *,
    subjects: Path | None = None,
    allow_empty: bool = False,
    ignore: int | None = None,
    names: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Facts], Split, list[Problem]]:
    """Read every case once.

    Args:
        source: from `find_source`.
        known: label values that dataset.json names; () accepts any.
        subjects: a CSV of subjects and parts; None: the list itself where `source` is one.
        allow_empty: cases without any structure are sound.
        ignore: the value of voxels that count nowhere; None: there is none.
        names: compare what label maps call their values, where dataset.json names none.
        progress: called with (cases read, cases in all).

    Returns:
        Facts of the sound cases in order of their names; what files say of the split; every problem, faults first.
    """
    problems = list(source.problems)
    facts: list[Facts] = []
    for n, case in enumerate(source.cases, 1):
        found, wrong = look_at(case, source.channels, known, allow_empty=allow_empty, ignore=ignore)
        problems += wrong
        facts += [] if found is None else [found]
        if progress is not None:
            progress(n, len(source.cases))
    cases = {case.name: case for case in source.cases}
    split = Split()
    listed = subjects or (source.path if source.path.suffix.lower() in (".csv", ".tsv") else None)
    try:
        split = read_split(source.split_folder, source.cases, listed)
        problems += split_problems(split, cases)
    except MedsegError as error:
        problems.append(problem_of(error, "", listed))
    problems += _duplicates(facts, cases, split)
    problems += naming_problems(facts, cases) if names and not known_values(source.said) else []
    problems += _unusual(facts, cases)
    return sorted(facts, key=lambda one: one.name), split, faults_first(problems)


def _duplicates(facts: Sequence[Facts], cases: dict[str, Case], split: Split) -> list[Problem]:
    """Images of the same grey values under two names: a fault on both sides of a split, else a note."""
    first: dict[str, str] = {}
    found = []
    validates = set(split.validation)
    for one in sorted(facts, key=lambda one: one.name):
        other = first.setdefault(one.digest, one.name)
        if other == one.name:
            continue
        apart = split.said and (one.name in validates) != (other in validates)
        what = f"the same image as {other}, voxel for voxel ({cases[other].images[0].name})"
        what += f"; one trains, the other validates ({split.file.name})" if apart and split.file else ""
        file = str(cases[one.name].images[0])
        found.append(Problem("MS-T145", what, file, "take one of the two out", one.name, note=not apart))
    return found


def same_subjects(facts: Sequence[Facts], subjects: Mapping[str, str]) -> dict[str, str]:
    """Case -> subject, where cases with the same image are of one subject too."""
    known = {one.name: subjects.get(one.name, one.name) for one in facts}
    first: dict[str, str] = {}
    for one in sorted(facts, key=lambda one: one.name):
        other, own = first.setdefault(one.digest, known[one.name]), known[one.name]
        if other != own:
            known = {name: other if subject == own else subject for name, subject in known.items()}
            first = {digest: other if subject == own else subject for digest, subject in first.items()}
    return known


def _unusual(facts: Sequence[Facts], cases: dict[str, Case]) -> list[Problem]:
    """Notes: a spacing far from the others' (cm for mm), grey values below zero where the others have none."""
    if len(facts) < 3:
        return []
    found = []
    median = np.median([one.spacing_mm for one in facts], axis=0)
    negative = [one.grey[0].low < -200 for one in facts]
    ct = np.mean(negative) > 0.5
    for one, below in zip(facts, negative, strict=True):
        ratio = np.asarray(one.spacing_mm) / median
        file = str(cases[one.name].images[0])
        if ratio.max() > _UNUSUAL or ratio.min() < 1 / _UNUSUAL:
            ours, theirs = (" x ".join(f"{mm:.3g}" for mm in row) for row in (one.spacing_mm, median))
            what = f"voxels of {ours} mm, where the median is {theirs} mm"
            found.append(Problem("MS-T149", what, file, "look whether its header is right", one.name, note=True))
        if below != ct:
            what = f"its least grey value is {one.grey[0].low:.4g}, unlike most others': is it of another modality?"
            found.append(Problem("MS-T149", what, file, "look at the image", one.name, note=True))
    return found
