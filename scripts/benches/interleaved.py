"""Times of rival ways to do one thing, in turns, so that a busy machine is busy for all of them."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def timed(case: str, ways: dict[str, Callable], repeats: int) -> list[dict]:
    """Rows of `scripts/bench`: medians of wall time in ms, "medseg" against each of the other ways.

    Every way has one untimed turn: what is measured is warm (imports, compiled code, files in memory). What a way
    returns is let go of after the clock has stopped.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            kept = way()
            took = 1000 * (time.perf_counter() - start)
            del kept
            if turn:
                times[name].append(took)
    medians = {name: statistics.median(values) for name, values in times.items()}
    mine = medians.pop("medseg")
    return [
        {"case": case, "peer": peer, "ratio": theirs / mine, "medseg": mine, "theirs": theirs, "unit": "ms"}
        for peer, theirs in medians.items()
    ]
