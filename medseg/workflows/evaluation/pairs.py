"""Which prediction belongs to which reference, and whose scan it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.errors import InputError, UsageError
from medseg.readers.cases.label_maps import LabelMap, as_one_case, find_label_maps
from medseg.readers.cases.names import collision_key
from medseg.readers.cases.table import table_rows
from medseg.workflows.identity.guard import guarded
from medseg.workflows.identity.key import FILE
from medseg.workflows.identity.matched import Matched, matched

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medseg.workflows.outcome import Failure

_SHOWN = 5


@dataclass(frozen=True)
class Pair:
    """One case.

    Args:
        name: of the reference.
        pred: None where the reference has no prediction.
        ref: the reference.
    """

    name: str
    pred: LabelMap | None
    ref: LabelMap


@dataclass(frozen=True)
class Pairs:
    """All cases.

    Args:
        pairs: one a reference, by name.
        extra: names of predictions without a reference.
        calls: how cases are called, and their files told.
        refused: by the headers of their files.
    """

    pairs: tuple[Pair, ...]
    extra: tuple[str, ...] = ()
    calls: Matched = field(default_factory=lambda: Matched(Path(), Path()))
    refused: tuple[Failure, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of references without a prediction."""
        return tuple(pair.name for pair in self.pairs if pair.pred is None)


@dataclass(frozen=True)
class Person:
    """Whose scan a case is.

    Args:
        subject: resampled as a whole; the case itself where no list says otherwise.
        session: order of the subject's scans, '' without a list.
        columns: everything else that the list says of the case.
    """

    subject: str
    session: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)


def pair_up(pred: Path, ref: Path, *, instances: bool = False, key_file: Path | None = None) -> Pairs:
    """Pair predictions with references by case name; two single files are a pair whatever they are called.

    Args:
        pred: a file, a folder or a list.
        ref: likewise.
        instances: look for instance maps, see `find_label_maps`.
        key_file: the key of predictions called by pseudonyms; None: it is looked for beside the references and above.

    Raises:
        InputError: MS-E101 no name is in both, MS-C102 and MS-C120 from looking for label maps.
        UsageError: MS-U401 the key cannot be used.
    """
    found = find_label_maps(pred, instances=instances)
    calls = matched(pred, ref, [item.name for item in found], key_file)
    with guarded(calls.of):
        references = find_label_maps(ref, instances=instances)
    if ref.is_file() and len(references) == 1:
        found = _masks_of(pred, found, references[0])
    elif pred.is_file() and len(found) == 1:
        references = _masks_of(ref, references, found[0])
    if (ref.is_file() or pred.is_file()) and len(found) == len(references) == 1:
        name = found[0].name if calls.hidden else references[0].name
        return Pairs((Pair(name, found[0], references[0]),), calls=calls)
    references = calls.references(references, found)
    by_key = {collision_key(item.name): item for item in found}
    pairs = tuple(Pair(item.name, by_key.get(collision_key(item.name)), item) for item in references)
    known = {collision_key(item.name) for item in references}
    extra = tuple(item.name for item in found if collision_key(item.name) not in known)
    if all(pair.pred is None for pair in pairs):
        if calls.hidden:
            raise InputError(
                "MS-E101",
                f"predictions are called by pseudonyms, such as {found[0].name}, and "
                + (
                    "their key is not known"
                    if calls.key is None
                    else f"none of a reference by the key {calls.key.mark}"
                ),
                mend=f"name the key that lies by the scans with --case-key {FILE}, and references as the scans are named",
            )
        raise InputError(
            "MS-E101",
            f"no prediction has the name of a reference: predictions are called {_some(i.name for i in found)}, "
            f"references {_some(i.name for i in references)}",
            file=pred,
            mend="name both alike, or give CSV lists with the columns name and label",
        )
    return Pairs(pairs, extra, calls)


def _masks_of(folder: Path, found: list[LabelMap], one: LabelMap) -> list[LabelMap]:
    """Beside one label map, a folder none of whose files is called like it holds the masks of that case."""
    whole = None if any(collision_key(f.name) == collision_key(one.name) for f in found) else as_one_case(folder)
    return found if whole is None else [whole]


def people(path: Path | None, names: tuple[str, ...], calls: Matched | None = None) -> dict[str, Person]:
    """Case -> whose scan it is, from a CSV or JSON list with the columns case (or name), subject, session and others.

    Args:
        path: the list.
        names: of the cases.
        calls: what the evaluation calls cases and subjects that the list calls by names.

    Raises:
        UsageError: MS-U163 the list has no column for cases, names one twice, or cases of this evaluation are missing from it.
    """
    if path is None:
        return {name: Person(name) for name in names}
    rows = [{str(k).strip(): str(v).strip() for k, v in row.items() if v is not None} for row in table_rows(path)]
    found: dict[str, Person] = {}
    calls = calls or Matched(Path(), Path())
    known = {collision_key(name) for name in names}
    for row in rows:
        keys = {key.casefold(): key for key in row}
        case = row.get(keys.get("case", keys.get("name", "")), "")
        if not case:
            raise UsageError(
                "MS-U163", "a row of this list names no case", file=path, mend="give it a column `case` and fill it"
            )
        case = case if collision_key(case) in known else calls.name(case)
        if collision_key(case) in found:
            raise UsageError(
                "MS-U163", f"case {case!r} stands twice in this list", file=path, mend="keep one row a case"
            )
        used = [keys[k] for k in ("case", "name", "subject", "session") if k in keys]
        found[collision_key(case)] = Person(
            calls.subject(row.get(keys.get("subject", ""), "")) if row.get(keys.get("subject", ""), "") else case,
            row.get(keys.get("session", ""), ""),
            {k: v for k, v in row.items() if k not in used},
        )
    absent = [name for name in names if collision_key(name) not in found]
    if absent:
        raise UsageError(
            "MS-U163",
            f"{len(absent)} of {len(names)} cases are not in this list, such as {_some(absent)}",
            file=path,
            mend="add a row for each, or leave out the list",
        )
    return {name: found[collision_key(name)] for name in names}


def groups(of: Mapping[str, Person], column: str, path: Path | None) -> dict[str, str]:
    """Case -> its group, by a column of the list of cases.

    Raises:
        UsageError: MS-U164 there is no list, or it has no such column.
    """
    if column == "subject":
        return {name: person.subject for name, person in of.items()}
    if path is None:
        raise UsageError(
            "MS-U164", "--group-by needs a list of cases", mend=f"add --cases LIST.csv with a column {column}"
        )
    known = sorted({key for person in of.values() for key in person.columns})
    if column not in known:
        raise UsageError(
            "MS-U164", f"the list of cases has no column {column!r}", file=path, mend=f"name one of: {', '.join(known)}"
        )
    return {name: person.columns.get(column) or "(not given)" for name, person in of.items()}


def _some(names) -> str:
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
