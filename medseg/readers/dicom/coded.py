"""What DICOM says about a structure: codes, colour and side, as they stand in SEG and RTSTRUCT objects."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from medseg.errors import InputError, MedsegError
from medseg.labels import PALETTE, Code, Label, LabelTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pydicom import Dataset

#: SNOMED CT (and the retired SRT) codes of right and left.
_SIDES = {"24028007": "right", "G-A100": "right", "7771000": "left", "G-A101": "left"}


@contextmanager
def parsing(path: Path, code: str, kind: str) -> Iterator[None]:
    """What pydicom and highdicom raise at a damaged file, of many kinds and at any access, as one InputError."""
    try:
        yield
    except (MedsegError, MemoryError):
        raise
    except Exception as error:
        what = f"this {kind} cannot be parsed ({type(error).__name__}: {error})"
        raise InputError(code, what, file=path, mend="export it again, or take it out of the folder") from error


def code_of(item: Dataset, keyword: str) -> Code | None:
    """The first code of a code sequence, None when it is absent or empty."""
    sequence = item.get(keyword)
    if not sequence:
        return None
    code = sequence[0]
    value = code.get("CodeValue") or code.get("LongCodeValue") or code.get("URNCodeValue")
    if not value:
        return None
    return Code(str(code.get("CodingSchemeDesignator", "")), str(value), str(code.get("CodeMeaning", "")))


def side_of(modifier: Code | None) -> str | None:
    """'left' or 'right' when a modifier says so."""
    return None if modifier is None else _SIDES.get(modifier.value)


def palette_colour(index: int) -> tuple[int, int, int]:
    """A colour for a structure whose file names none."""
    return PALETTE[index % len(PALETTE)]


def table_of(labels: Iterable[Label]) -> LabelTable:
    """A table in which every name is unique and left and right structures of one type are paired."""
    seen: dict[str, int] = {}
    unique = []
    for label in labels:
        name = label.name
        while name in seen:
            seen[label.name] += 1
            name = f"{label.name} ({seen[label.name]})"
        seen[name] = 1
        unique.append(replace(label, name=name))
    return LabelTable(tuple(replace(label, mirror=_mirror(label, unique)) for label in unique))


def _mirror(label: Label, labels: list[Label]) -> str | None:
    side = side_of(label.modifier)
    if side is None or label.type is None:
        return None
    same = [x for x in labels if x.type == label.type and x.category == label.category and side_of(x.modifier)]
    others = [x.name for x in same if side_of(x.modifier) != side]
    return others[0] if len(same) == 2 and len(others) == 1 else None
