"""Who trains and who validates: read from a file beside the cases, or drawn by a seed, whole subjects on one side.

Read are `splits.json`, nnU-Net's `splits_final.json`, any other single `splits*.json` (the first fold of a list), and a
column `split` of a CSV. A subject is what the CSV's column `subject` says, else BIDS' `sub-XX` in the case's name, else
whom DICOM's PatientID means (see `medseg.training.patients`), else the case itself.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError
from medseg.readers.cases.names import case_stem, safe_name
from medseg.readers.cases.table import table_rows
from medseg.training.patients import same_patients
from medseg.training.plan.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medseg.readers.cases.case import Case

#: Share of the cases that validate where nothing says which.
FRACTION = 0.2
_KNOWN = ("splits.json", "splits_final.json")
_VALIDATION = ("val", "validation", "valid", "test")
_BIDS = re.compile(r"sub-[A-Za-z0-9]+")


@dataclass(frozen=True)
class Split:
    """Names of cases.

    Args:
        train: cases that train.
        validation: cases that validate.
        why: where that comes from, in words.
        file: where it was read; None where it was drawn.
        subjects: case -> subject.
    """

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    why: str = ""
    file: Path | None = None
    subjects: Mapping[str, str] = field(default_factory=dict)

    @property
    def said(self) -> bool:
        """Whether it was read."""
        return self.file is not None


def read_split(root: Path, cases: Sequence[Case], listed: Path | None = None) -> Split:
    """What files say of subjects and parts; `train` and `validation` are () where they say nothing.

    Args:
        root: the dataset's folder.
        cases: all of them.
        listed: a CSV with the columns `case` (or `name`) and `subject`, `split` or both.

    Raises:
        InputError: MS-T147 a file that does not say it in a form that is known, MS-C103 an unusable list.
    """
    rows = {} if listed is None else listed_cells(listed)
    subjects = {case.name: _subject(case.name, rows.get(case.name, {})) for case in cases}
    subjects |= same_patients(silent(cases, rows))
    parts = {name: cells["split"].casefold() for name, cells in rows.items() if cells.get("split")}
    if listed is not None and parts:
        validation = tuple(name for name, part in parts.items() if part in _VALIDATION)
        train = tuple(name for name, part in parts.items() if part not in _VALIDATION)
        return Split(train, validation, f"column split of {listed.name}", listed, subjects)
    file = split_file(root)
    if file is None:
        return Split(subjects=subjects)
    train, validation = folds_in(file)[0]
    return Split(train, validation, f"read from {file.name}", file, subjects)


def drawn(
    cases: Sequence[str], subjects: Mapping[str, str], held: Mapping[str, frozenset[int]], seed: int = 0
) -> Split:
    """A fifth of the subjects, drawn by a seed so that every structure is on both sides where that is possible.

    Args:
        cases: names.
        subjects: case -> subject.
        held: case -> label values in it; cases with the same ones are shared out evenly.
        seed: of the draw.
    """
    of_subject: dict[str, list[str]] = {}
    for name in sorted(cases):
        of_subject.setdefault(subjects.get(name, name), []).append(name)
    groups: dict[tuple[int, ...], list[str]] = {}
    for subject, names in of_subject.items():
        groups.setdefault(tuple(sorted(frozenset().union(*(held.get(n, frozenset()) for n in names)))), []).append(
            subject
        )
    rng = random.Random(seed)
    wanted = max(1, round(FRACTION * len(cases)))
    order: list[tuple[float, str]] = []
    for key in sorted(groups):
        shuffled = sorted(groups[key])
        rng.shuffle(shuffled)
        order += [((n + 0.5) / len(shuffled), subject) for n, subject in enumerate(shuffled)]
    validation: list[str] = []
    for _, subject in sorted(order):
        rest = len(cases) - len(validation) - len(of_subject[subject])
        if len(validation) < wanted and rest > 0:
            validation += of_subject[subject]
    train = tuple(name for name in sorted(cases) if name not in validation)
    why = f"{len(validation)} of {len(cases)} cases, drawn by seed {seed}, whole subjects, by the structures they hold"
    return Split(train, tuple(sorted(validation)), why, None, dict(subjects))


def listed_cells(listed: Path) -> dict[str, dict[str, str]]:
    """Case -> column -> cell of a CSV, columns in small letters, without empty cells.

    Raises:
        InputError: MS-T147 a row names no case, MS-C103 an unusable list.
    """
    out = {}
    for row in table_rows(listed):
        cells = {str(k).strip().casefold(): str(v).strip() for k, v in row.items() if v not in (None, "")}
        name = cells.get("case") or cells.get("name") or cells.get("image")
        if not name:
            raise InputError(
                "MS-T147", f"a row names no case: {dict(row)}", file=listed, mend="give it the columns case and subject"
            )
        out[_name(name)] = cells
    return out


def split_file(root: Path) -> Path | None:
    """The file in a dataset's folder that says who trains, None where there is none."""
    for name in _KNOWN:
        if (root / name).is_file():
            return root / name
    others = sorted(root.glob("splits*.json"))
    return others[0] if len(others) == 1 else None


def folds_in(file: Path) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Names of the cases that train and that validate, of every fold in a file; one that says one split has one fold.

    Raises:
        InputError: MS-T147 it is not known what the file says.
    """
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise _unreadable(file, f"it is no valid JSON ({error})") from error
    if isinstance(content, dict) and isinstance(content.get("folds"), list):
        content = content["folds"]
    return [_of_json(one, file) for one in (content or [{}] if isinstance(content, list) else [content])]


def _of_json(content: Any, file: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if not isinstance(content, dict):
        raise _unreadable(file, "it is neither a fold nor a list of folds")
    validation = next((content[key] for key in _VALIDATION if key in content), None)
    train = content.get("train")
    if not isinstance(train, list) or not isinstance(validation, list) or not _all_text([*train, *validation]):
        raise _unreadable(file, 'it has no lists of names "train" and "val"')
    return tuple(_name(n) for n in train), tuple(_name(n) for n in validation)


def split_problems(split: Split, cases: Mapping[str, Case]) -> list[Problem]:
    """Cases and subjects on both sides, and names that no case has."""
    if not split.said:
        return []
    found = []
    where = str(split.file)
    for name in sorted(set(split.train) & set(split.validation)):
        what = f"{name} both trains and validates in {Path(where).name}"
        found.append(Problem("MS-T146", what, _file(cases, name), "take it out of one of the two lists", name))
    for name in sorted((set(split.train) | set(split.validation)) - set(cases)):
        what = f"names {name}, of which there is no usable case"
        found.append(Problem("MS-T147", what, where, "correct the name, or take it out", name))
    of_train: dict[str, str] = {}
    for name in split.train:
        of_train.setdefault(split.subjects.get(name, name), name)
    for name in split.validation:
        subject = split.subjects.get(name, name)
        other = of_train.get(subject)
        if other is not None and other != name and name not in split.train:
            what = f"subject {subject} validates with {name} and trains with {other} ({Path(where).name})"
            mend = "put all cases of a subject on one side"
            found.append(Problem("MS-T146", what, _file(cases, name), mend, name))
    if not set(split.validation) & set(cases) or not set(split.train) & set(cases):
        what = "leaves no case to train or no case to validate"
        found.append(Problem("MS-T147", what, where, "name cases of both parts", ""))
    return found


def _file(cases: Mapping[str, Case], name: str) -> str:
    return str(cases[name].images[0]) if name in cases and cases[name].images else name


def _subject(name: str, cells: Mapping[str, str]) -> str:
    bids = _BIDS.search(name)
    return cells.get("subject") or (bids[0] if bids else name)


def silent(cases: Sequence[Case], rows: Mapping[str, Mapping[str, str]]) -> dict[str, tuple[Path, ...]]:
    """Images of the cases of which neither a list nor the name says the subject.

    Args:
        cases: all of them.
        rows: of the list, see `listed_cells`; {} without one.
    """
    return {
        case.name: case.images
        for case in cases
        if not rows.get(case.name, {}).get("subject") and not _BIDS.search(case.name)
    }


def _all_text(names: list[Any]) -> bool:
    return all(isinstance(name, str) for name in names)


def _name(text: str) -> str:
    return safe_name(case_stem(Path(text)))


def _unreadable(file: Path, what: str) -> InputError:
    return InputError(
        "MS-T147", f"this split cannot be used: {what}", file=file, mend='write {"train": ["a", "b"], "val": ["c"]}'
    )
