"""The input of recorded cases, found again by what is in its files, wherever they lie and whatever they are called now."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError, RecordError
from medseg.readers.cases import Case, find_cases
from medseg.readers.options import ReadOptions
from medseg.workflows.contents import Contents
from medseg.workflows.identity.cases import Identity
from medseg.workflows.identity.key import Key, find_key, read_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: What stands in a record for the UID of a series.
_HIDDEN = re.compile(r"uid-[0-9a-f]{12}")
_SHOWN = 3


@dataclass(frozen=True)
class RecordedInput:
    """The cases of some records.

    Args:
        source: where they were found.
        cases: name in the record -> case of that name.
        key: of their pseudonyms.
        names: pseudonym -> what the case would be called.
    """

    source: Path
    cases: Mapping[str, Case]
    key: Key | None = None
    names: Mapping[str, str] = field(default_factory=dict)

    def identity(self, out: Path) -> Identity:
        """How the cases are called in a run into `out`."""
        mode = "name" if self.key is None else "pseudonym" if len(self.names) == len(self.cases) else "auto"
        return Identity(self.source, out, mode, self.key, self.names)


def find_input(
    records: Mapping[str, Mapping[str, Any]],
    source: Path | None,
    bases: Sequence[Path],
    *,
    channels: Sequence[str],
    key_file: Path | None,
    file: Path,
) -> RecordedInput:
    """The cases of records, each file as it was.

    Args:
        records: case -> record.
        source: where the input lies now; None: below one of `bases`, as the records' own paths say.
        bases: folders.
        channels: that the bundle wants.
        key_file: the key of the pseudonyms; None: the one by the input.
        file: the record, for messages.

    Raises:
        RecordError: MS-V122 a case's input, or the key, is not there or not as it was; MS-V124 it was no file.
    """
    if arrays := [name for name, record in records.items() if not record["input"]["files"]]:
        what = f"{arrays[0]} was made of an array in Python, not of files"
        raise RecordError("MS-V124", what, file=file, mend="call medseg.predict with the same array")
    tops = [source] if source is not None else [base for base in bases if _leads(base, records)]
    if not tops:
        raise _missing(list(records), file, named=False)
    top = tops[0]
    rows = [row for record in records.values() for row in record["input"]["files"]]
    there = Contents(top, (row["bytes"] for row in rows))
    candidates = _candidates(top, channels)
    key = _key(top, {mark for record in records.values() if (mark := record["input"].get("key"))}, key_file, file)
    found, names = {}, {}
    for name, record in records.items():
        case = next((case for case in candidates if _holds(case.images, record, there)), None)
        if case is None:
            continue
        found[name] = Case(name, case.images, options=_options(record, there, file))
        if record["input"].get("key"):
            names[name] = case.name
    if lost := [name for name in records if name not in found]:
        raise _missing(lost, file, named=source is not None)
    return RecordedInput(top, found, key, names)


def _leads(base: Path, records: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether every path of the records leads somewhere from a folder; a path of another machine or disk does not."""
    paths = [path for record in records.values() for path in record["input"]["paths"]]
    plain = all(not path.startswith(("/", "\\")) and ":" not in path and ".." not in Path(path).parts for path in paths)
    return plain and all((base / path).exists() for path in paths)


def _candidates(top: Path, channels: Sequence[str]) -> list[Case]:
    try:
        return find_cases(top, channels=channels)
    except InputError:  # nothing there that could be a case
        return []


def _holds(images: Sequence[Path], record: Mapping[str, Any], there: Contents) -> bool:
    """Whether `images` are what was read: each file itself (its voxels may lie beside it), or all files in its folder."""
    rows = record["input"]["files"]
    if len(images) != len(record["input"]["paths"]) or any(row["root"] >= len(images) for row in rows):
        return False
    for n, root in enumerate(images):
        found = [there.find(row) for row in rows if row["root"] == n]
        near = root if root.is_dir() else root.parent
        if not all(any(near in path.parents for path in paths) for paths in found):
            return False
        if root.is_file() and not any(root in paths for paths in found):
            return False
    return True


def _options(record: Mapping[str, Any], there: Contents, file: Path) -> ReadOptions:
    """The readers' options; the UID of a series, which records do not tell, is that of the recorded files."""
    told = record["parameters"]["read"]
    if unknown := sorted(set(told) - {one.name for one in fields(ReadOptions)}):
        what = f"it was read with something that this medseg does not know: {', '.join(unknown)[:80]}"
        raise RecordError("MS-V124", what, file=file, mend="use the version of medseg that made it")
    series = told.get("series")
    if series is not None and _HIDDEN.search(series):
        uid = _series_uid(path for row in record["input"]["files"][:1] for path in there.find(row))
        told = {**told, "series": _HIDDEN.sub(uid, series)}
    return ReadOptions(**told)


def _series_uid(paths: Iterable[Path]) -> str:
    import pydicom

    path = next(iter(paths))
    return str(pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"]).SeriesInstanceUID)


def _key(top: Path, marks: set[str], key_file: Path | None, file: Path) -> Key | None:
    """The key of the pseudonyms that records were made with."""
    if not marks:
        return None
    key = find_key(top) if key_file is None else read_key(key_file)
    if key is None or marks != {key.mark}:
        here = "is not by the input" if key is None else "is another one"
        raise RecordError(
            "MS-V122",
            f"the key of the pseudonyms {here}, and without it the same names cannot be given",
            file=file,
            mend="put medseg-key.json back beside the input, or name it with --case-key FILE",
        )
    return key


def _missing(names: Sequence[str], file: Path, *, named: bool) -> RecordError:
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    where = "at the place named" if named else "from here"
    return RecordError(
        "MS-V122",
        f"the input of {shown} is not found {where} as it was: a file is missing, or its content was changed since",
        file=file,
        mend="say where the unchanged input lies now with --input PATH",
    )
