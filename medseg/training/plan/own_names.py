"""Names that label maps themselves give their values, as 3D Slicer, TotalSegmentator and medseg write them into the file.

They are the structures' names where dataset.json has none. 3D Slicer numbers the segments of a scan in the order in which they
were drawn, so that 2 may be the liver in one file and a kidney in the next: that is a fault. Names such as Segment_1, which
programs give by themselves, say nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from medseg.training.plan.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medseg.readers.cases.case import Case
    from medseg.training.plan.look import Facts

_NUMBERED = re.compile(r"(segment|label|class|region|structure|value)?[\s_.-]*\d+", re.IGNORECASE)


def own_names(facts: Sequence[Facts]) -> dict[int, str]:
    """Value -> the name that most files give it, the first of equals."""
    found: dict[int, Counter[str]] = {}
    spelt: dict[tuple[int, str], str] = {}
    for one in facts:
        for value, name in _said(one).items():
            found.setdefault(value, Counter())[_folded(name)] += 1
            spelt.setdefault((value, _folded(name)), name)
    return {value: spelt[value, names.most_common(1)[0][0]] for value, names in sorted(found.items())}


def naming_problems(facts: Sequence[Facts], cases: Mapping[str, Case]) -> list[Problem]:
    """MS-T155: a structure with one value here and another there; a note where a value has another name only.

    Args:
        facts: of the sound cases.
        cases: by name.
    """
    values: dict[str, tuple[set[int], str]] = {}
    names: dict[int, tuple[str, str]] = {}
    for one in facts:
        for value, name in _said(one).items():
            names.setdefault(value, (name, one.name))
        for name, held in _values(one).items():
            values.setdefault(name, (held, one.name))
    found = []
    for one in facts:
        file, own = str(cases[one.name].label), _said(one)
        moved = {name for name, held in _values(one).items() if not held & values[name][0]}
        for value, name in own.items():
            known, where = values[_folded(name)]
            if _folded(name) in moved:
                what = f"{name} is {value} here and {min(known)} in {where}"
                found.append(Problem("MS-T155", what, file, "number the structures alike in all label maps", one.name))
            elif _folded(names[value][0]) != _folded(name):
                what = f"{value} is called {name} here and {names[value][0]} in {names[value][1]}"
                mend = "look whether both mean the same structure"
                found.append(Problem("MS-T155", what, file, mend, one.name, note=True))
    return found


def _said(one: Facts) -> dict[int, str]:
    return {value: name for value, name in one.names.items() if not _NUMBERED.fullmatch(name)}


def _values(one: Facts) -> dict[str, set[int]]:
    out: dict[str, set[int]] = {}
    for value, name in _said(one).items():
        out.setdefault(_folded(name), set()).add(value)
    return out


def _folded(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum()) or name
