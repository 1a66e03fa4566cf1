"""Which cases of a run get a pseudonym, and what a run says of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError, MedsegError, UsageError
from medseg.readers.cases.names import has_dicom_name
from medseg.readers.sniff import sniff
from medseg.workflows.identity.key import Key, open_key
from medseg.workflows.identity.teller import Teller, absolute

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from medseg.readers.cases import Case

#: What `--case-id` takes. 'auto': pseudonyms for cases from DICOM, names for others.
MODES = ("auto", "pseudonym", "name")
_LISTS = (".csv", ".tsv", ".json")


@dataclass(frozen=True)
class Identity:
    """How a run calls its cases and tells their files.

    Args:
        source: what the user named as the input.
        out: the folder of results.
        mode: one of `MODES`.
        key: of its pseudonyms; None where there is none.
        names: pseudonym -> the name that it stands for.
        mentioned: pseudonym -> path, of files told by one in failures and warnings.
    """

    source: Path
    out: Path
    mode: str = "name"
    key: Key | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    mentioned: dict[str, str] = field(default_factory=dict, compare=False)

    def of(self, case: Case) -> Teller:
        """How the files of a case are told."""
        known = self.names.get(case.name)
        key = None if known is None else self.key
        return Teller(self.source, self.out, case.name, tuple(case.images), key, known or "", self.mentioned)

    def whole(self, cases: Sequence[Case] = ()) -> Teller:
        """How the input as a whole is told, knowing what its cases say."""
        roots = tuple(image for case in cases for image in case.images)
        return Teller(self.source, self.out, roots=roots, key=self.key, mentioned=self.mentioned)

    @property
    def words(self) -> str:
        """For the plan of a run: that there are pseudonyms, and where their key is (the place itself is not told)."""
        if self.key is None:
            return ""
        return f" | pseudonyms {'of this run only' if self.key.file is None else f'(key: {self.key.file.name})'}"

    @property
    def fixed(self) -> dict[str, Any]:
        """What a resumed run must share, for the record: the same cases must have the same names again."""
        return {"case_id": self.mode, "key": None if self.key is None else self.key.mark}

    def remember(self, cases: Sequence[Case] = ()) -> None:
        """Put the cases, and files that were told by a pseudonym, into the key's table."""
        if self.key is None:
            return
        behind = {
            case.name: {"name": self.names[case.name], "images": [str(absolute(image)) for image in case.images]}
            for case in cases
            if case.name in self.names
        }
        self.key.remember(behind, dict(self.mentioned))


def identify(
    find: Callable[[], list[Case]],
    source: Path,
    out: Path,
    *,
    mode: str = "auto",
    key_file: Path | None = None,
    write: bool = True,
) -> tuple[list[Case], Identity]:
    """Find the cases of a run and name them so that nobody can be told from their names.

    Args:
        find: finds them, see `cases_of`.
        source: what the user named.
        out: the folder of results.
        mode: one of `MODES`.
        key_file: the key; None: beside the input, or in a folder above it.
        write: make the key where there is none; else pseudonyms are of this run only.

    Returns:
        The cases, those with pseudonyms in their order.

    Raises:
        UsageError: MS-U400 an unknown mode, MS-U401 and MS-U402 the key cannot be used.
        OutputError: MS-O330 the key cannot be made.
        InputError: what `find` raises, told as its cases would be.
    """
    if mode not in MODES:
        raise UsageError("MS-U400", f"--case-id {mode!r} is not known", mend=f"use one of {', '.join(MODES)}")
    try:
        cases = find()
    except MedsegError as error:
        hidden = mode == "pseudonym" or (mode == "auto" and _holds_dicom(source))
        key = open_key(source, out, key_file, write=False) if hidden else None
        Identity(source, out, mode, key).whole().tell(error)
        raise
    chosen = {case.name for case in cases if mode == "pseudonym" or (mode == "auto" and is_dicom(case))}
    if not chosen:
        return cases, Identity(source, out, mode)
    key = open_key(source, out, key_file, write=write)
    names = {key.case(name): name for name in chosen}
    named = [replace(case, name=key.case(case.name)) if case.name in chosen else case for case in cases]
    if source.suffix.lower() not in _LISTS:  # the order of a folder is that of its names, which would tell a little
        named.sort(key=lambda case: case.name)
    return named, Identity(source, out, mode, key, names)


def is_dicom(case: Case) -> bool:
    """Whether a case is from DICOM, or could be: one that cannot be looked at counts."""
    return any(image.is_dir() or has_dicom_name(image) or _is_dicom(image) for image in case.images)


def _is_dicom(path: Path) -> bool:
    try:
        return sniff(path) == "dicom"
    except InputError:
        return False
    except OSError:
        return True


def _holds_dicom(source: Path) -> bool:
    """Whether there is DICOM in what the user named; only asked where it cannot be used."""
    if not source.is_dir():
        return has_dicom_name(source) or _is_dicom(source)
    return any(has_dicom_name(file) or _is_dicom(file) for file in source.rglob("*") if file.is_file())
