"""Cross-validation: who validates in which fold. Nobody is on both sides, and folds are alike.

Folds are read where the dataset says them (`splits_final.json` of nnU-Net, `splits.json`), else drawn by a seed: whole
subjects (a column `subject` of the list, BIDS' `sub-XX`, DICOM's PatientID, equal images), shared out so that sites (a
column `site`) and the structures that cases hold are spread evenly.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError, UsageError
from medseg.training.patients import pseudonyms
from medseg.training.plan.check import check_dataset, same_subjects
from medseg.training.plan.mask_sets import require_label_maps
from medseg.training.plan.problems import DatasetError, Problem
from medseg.training.plan.sources import find_source
from medseg.training.plan.split import Split, folds_in, listed_cells, silent, split_file, split_problems

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from medseg.readers.cases.case import Case
    from medseg.training.plan.look import Facts

FILE = "splits.json"
_LISTS = (".csv", ".tsv")


@dataclass(frozen=True)
class Folds:
    """Folds of a dataset.

    Args:
        folds: of every fold the names of the cases that train, and of those that validate.
        why: where they come from, in words.
        subjects: case -> subject.
    """

    folds: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    why: str
    subjects: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As it stands in splits.json; `medseg plan` and `medseg train` read it again, `folds` is nnU-Net's form."""
        folds = [{"train": list(train), "val": list(validation)} for train, validation in self.folds]
        return {"why": self.why, "folds": folds, "subjects": dict(self.subjects)}


def find_folds(data: Path, count: int, channels: Sequence[str] = (), seed: int = 0, salt: bytes | None = None) -> Folds:
    """Read or draw the folds of a dataset; every image is read once, to know equal ones.

    Args:
        data: whatever `medseg plan` understands.
        count: how many, 2 or more.
        channels: names of the image's channels, () where there is one.
        seed: of the draw.
        salt: names subjects that are known by their PatientID by its hash; None: by the first of their cases.

    Raises:
        InputError: MS-T158 each structure has a mask of its own.
        UsageError: MS-T165 fewer than two folds, more than subjects, or another number than the file of splits has.
        DatasetError: MS-T140 a subject or the same image on both sides, or any other fault of the dataset.
    """
    require_label_maps(data, channels)
    source = find_source(data, channels)
    listed = source.path if source.path.suffix.lower() in _LISTS else None
    facts, split, problems = check_dataset(source, subjects=listed, allow_empty=True, names=False)
    cases = {case.name: case for case in source.cases}
    file = split_file(source.split_folder)
    rows = {} if listed is None or not split.subjects else listed_cells(listed)  # without subjects it is unusable
    faults = [one for one in problems if not one.note]
    if faults:
        raise DatasetError(faults, data)
    if file is not None:
        found = Folds(_read(file, count), f"read from {file.name}", split.subjects)
        if faults := _faults(found, cases, facts, file):
            raise DatasetError(faults, data)
    else:
        sites = {name: row.get("site", "") for name, row in rows.items()}
        found = draw_folds(facts, same_subjects(facts, split.subjects), count, sites, seed)
    if salt is None:
        return found
    return replace(found, subjects=pseudonyms(silent(source.cases, rows), found.subjects, salt))


def draw_folds(
    facts: Sequence[Facts], subjects: Mapping[str, str], count: int, sites: Mapping[str, str], seed: int = 0
) -> Folds:
    """Share whole subjects out.

    Each goes, in an order drawn by the seed, where its kind of cases (site and structures held) is rarest so far; of
    such folds to the one with the fewest cases.

    Args:
        facts: of the cases.
        subjects: case -> subject.
        count: of folds.
        sites: case -> site.
        seed: of the draw.

    Raises:
        UsageError: MS-T165 fewer than two folds, or more folds than subjects.
    """
    of_subject: dict[str, list[str]] = {}
    kinds = {one.name: (sites.get(one.name, ""), tuple(sorted(one.values))) for one in facts}
    for name in sorted(kinds):
        of_subject.setdefault(subjects.get(name, name), []).append(name)
    if not 2 <= count <= len(of_subject):
        what = f"{count} folds of {len(of_subject)} subjects"
        raise UsageError("MS-T165", what, mend=f"--folds takes a number from 2 to {max(2, len(of_subject))}")
    order = sorted(of_subject)
    random.Random(seed).shuffle(order)
    order.sort(key=lambda one: -len(of_subject[one]))  # large subjects first; they fit worst
    held: list[Counter] = [Counter() for _ in range(count)]
    parts: list[list[str]] = [[] for _ in range(count)]
    for subject in order:
        names = of_subject[subject]
        fold = min(range(count), key=lambda k: (sum(held[k][kinds[n]] for n in names) / len(names), len(parts[k]), k))
        parts[fold] += names
        held[fold].update(kinds[name] for name in names)
    everybody = sorted(kinds)
    folds = tuple((tuple(n for n in everybody if n not in set(part)), tuple(sorted(part))) for part in parts)
    about = f"{len(of_subject)} subjects" if len(of_subject) < len(everybody) else f"{len(everybody)} cases"
    spread = "sites and structures" if any(sites.values()) else "structures"
    return Folds(folds, f"{count} folds of {about}, drawn by seed {seed}, {spread} spread evenly", dict(subjects))


def _read(file: Path, count: int) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
    folds = folds_in(file)
    if len(folds) != count:
        raise UsageError(
            "MS-T165", f"{count} folds, but {len(folds)} stand in it", file=file, mend=f"type --folds {len(folds)}"
        )
    return tuple(folds)


def _faults(found: Folds, cases: Mapping[str, Case], facts: Sequence[Facts], file: Path) -> list[Problem]:
    """Subjects, images and names that a fold has on both sides or nowhere; those of one fold are not told again."""
    out: dict[str, Problem] = {}
    digests = {one.name: one.digest for one in facts}
    for number, (train, validation) in enumerate(found.folds):
        said = f"fold {number} of {file.name}"
        for one in split_problems(Split(train, validation, said, file, found.subjects), cases):
            out.setdefault(one.what, one)
        trained = {digests[name]: name for name in train if name in digests}
        for name in validation:
            other = trained.get(digests.get(name, ""))
            if other is not None and other != name:
                what = f"the same image as {other}, voxel for voxel; one trains, the other validates ({said})"
                mend = "put both on one side, or take one of the two out"
                out.setdefault(f"{name} {other}", Problem("MS-T145", what, str(cases[name].images[0]), mend, name))
        nowhere = sorted(set(cases) - set(train) - set(validation))
        if nowhere:
            what = f"{said} leaves out {len(nowhere)} cases, the first is {nowhere[0]}"
            out.setdefault(said, Problem("MS-T147", what, str(file), "name every case in one of the two lists"))
    return list(out.values())


def fold_of(folds: Folds, number: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names that train and that validate in one fold.

    Raises:
        UsageError: MS-T165 there is no such fold.
    """
    if not 0 <= number < len(folds.folds):
        what = f"there is no fold {number} among {len(folds.folds)}"
        raise UsageError("MS-T165", what, mend=f"--fold takes 0 to {len(folds.folds) - 1}")
    return folds.folds[number]


def require_names(names: Sequence[str], known: Sequence[str], data: Path) -> None:
    """Refuse where the recipe's data list calls the cases otherwise than the folds do.

    Raises:
        InputError: MS-T166 naming the first.
    """
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise InputError(
            "MS-T166", f"the recipe finds no case {unknown[0]} of the fold ({len(unknown)} in all)", file=data,
            mend="give the files plain names: letters, digits, '_' and '-'",
        )  # fmt: skip
