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
    from collections.abc import Iterable, Mapping, Sequence

    from medseg.readers.cases.case import Case
    from medseg.training.plan.look import Facts

_NUMBERED = re.compile(r"(segment|label|class|region|structure|value)?[\s_.-]*\d+", re.IGNORECASE)


def own_names(files: Iterable[Mapping[int, str]]) -> dict[int, str]:
    """Value -> the name that most files give it, the first of equals; `files` are value -> name each."""
    found: dict[int, Counter[str]] = {}
    spelt: dict[tuple[int, str], str] = {}
    for one in files:
        for value, name in _said(one).items():
            found.setdefault(value, Counter())[_folded(name)] += 1
            spelt.setdefault((value, _folded(name)), name)
    return {value: spelt[value, max(names, key=names.__getitem__)] for value, names in sorted(found.items())}


def naming_problems(facts: Sequence[Facts], cases: Mapping[str, Case]) -> list[Problem]:
    """MS-T155: a structure with another value here than in most files; a note where a value has another name only.

    Args:
        facts: of the sound cases.
        cases: by name.
    """
    names = own_names(one.names for one in facts)
    values: dict[str, Counter[int]] = {}
    for one in facts:
        for value, name in _said(one.names).items():
            values.setdefault(_folded(name), Counter())[value] += 1
    usual = {name: max(held, key=held.__getitem__) for name, held in values.items()}
    found = []
    for one in facts:
        file, own = str(cases[one.name].label), _said(one.names)
        right = {_folded(name) for value, name in own.items() if usual[_folded(name)] == value}
        for value, name in own.items():
            if _folded(name) not in right:
                what = f"{name} is {value} here and {usual[_folded(name)]} in {_share(facts, name, usual)}"
                found.append(Problem("MS-T155", what, file, "number the structures alike in all label maps", one.name))
            elif _folded(names[value]) != _folded(name):
                what = f"{value} is called {name} here and {names[value]} in most files"
                mend = "look whether both mean the same structure"
                found.append(Problem("MS-T155", what, file, mend, one.name, note=True))
    return found


def _share(facts: Sequence[Facts], name: str, usual: Mapping[str, int]) -> str:
    """'a', or 'a and 3 more', of the files in which a structure has its usual value."""
    value = usual[_folded(name)]
    held = [one.name for one in facts if _folded(_said(one.names).get(value, "")) == _folded(name)]
    return held[0] if len(held) == 1 else f"{held[0]} and {len(held) - 1} more"


def _said(names: Mapping[int, str]) -> dict[int, str]:
    return {value: name for value, name in names.items() if not _NUMBERED.fullmatch(name)}


def _folded(name: str) -> str:
    """As names are compared: 'Kidney_left' as 'kidney left'."""
    return " ".join(re.split(r"[\s_]+", name.strip().casefold()))
