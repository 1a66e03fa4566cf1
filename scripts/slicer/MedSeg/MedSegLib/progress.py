"""How far a running `medseg predict` is, from the lines it writes to standard error off a terminal."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: "[1/2] name: 12 of 96 windows, about 42 s left"; the name may hold anything, a colon too.
_FAR = re.compile(
    r"\[(?P<case>\d+)/(?P<cases>\d+)\] .*: (?P<done>\d+) of (?P<total>\d+) (?P<what>[^,]+), about (?P<left>.+) left"
)
_OVER = re.compile(r"\[(?P<case>\d+)/(?P<cases>\d+)\] .*")
_PLAN = re.compile(r"\d+ cases? \| .+")


@dataclass(frozen=True)
class Progress:
    """How far it is.

    Args:
        fraction: in [0, 1]; None while nothing is known.
        text: one line for the user.
    """

    fraction: float | None = None
    text: str = "starting medseg"


def advance(now: Progress, line: str) -> Progress:
    """`now` after one more line; lines that say nothing about progress change nothing."""
    line = line.rstrip()
    far = _FAR.fullmatch(line)
    if far:
        case, cases, done, total = (int(far[key]) for key in ("case", "cases", "done", "total"))
        within = min(done / total, 1.0) if total else 0.0
        fraction = min((case - 1 + within) / max(cases, 1), 1.0)
        return Progress(fraction, f"{done} of {total} {far['what']}, about {far['left']} left")
    over = _OVER.fullmatch(line)
    if over:
        return Progress(min(int(over["case"]) / max(int(over["cases"]), 1), 1.0), line)
    if _PLAN.fullmatch(line):
        return Progress(now.fraction or 0.0, line)
    return now
