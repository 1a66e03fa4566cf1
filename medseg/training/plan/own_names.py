"""Names that label maps themselves give their values, as 3D Slicer, TotalSegmentator and medseg write them into the file.

They are the structures' names where dataset.json has none. 3D Slicer numbers the segments of a scan in the order in which they
were drawn, so that 2 may be the liver in one file and a kidney in the next: that is a fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.training.plan.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medseg.readers.cases.case import Case
    from medseg.training.plan.look import Facts


def own_names(facts: Sequence[Facts]) -> dict[int, str]:
    """Value -> name, of the values that every file which names them names alike."""
    found: dict[int, dict[str, str]] = {}
    for one in facts:
        for value, name in one.names.items():
            found.setdefault(value, {}).setdefault(_folded(name), name)
    return {value: next(iter(names.values())) for value, names in sorted(found.items()) if len(names) == 1}


def naming_problems(facts: Sequence[Facts], cases: Mapping[str, Case]) -> list[Problem]:
    """MS-T155: a value that another file names otherwise; a note, unless its name has another value there."""
    first: dict[int, tuple[str, str]] = {}
    values: dict[str, int] = {}
    problems = []
    for one in facts:
        for value, name in one.names.items():
            known, where = first.setdefault(value, (name, one.name))
            if _folded(known) == _folded(name):
                values.setdefault(_folded(name), value)
                continue
            traded = values.get(_folded(name), value) != value
            what = f"{value} is {name} here and {known} in {where}"
            what += f", where {name} is {values[_folded(name)]}" if traded else ""
            mend = "number the structures alike in all label maps" if traded else "look whether both mean the same"
            problems.append(Problem("MS-T155", what, str(cases[one.name].label), mend, one.name, note=not traded))
    return problems


def _folded(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())
