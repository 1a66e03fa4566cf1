"""The cases that a run is about, each read while the one before it is worked on."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from medseg.errors import UsageError
from medseg.readers.cases import find_cases, load_case

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from medseg.readers.cases import Case
    from medseg.readers.options import ReadOptions
    from medseg.volume import Volume


def cases_of(source: Path, out: Path, channels: Sequence[str], options: ReadOptions) -> list[Case]:
    """The cases of `source` as a bundle with these channels takes them.

    Raises:
        UsageError: MS-O306 `out` lies inside the folder that is read.
        InputError: no case was found, or two would write one output.
    """
    if source.is_dir() and source.resolve() in (out.resolve(), *out.resolve().parents):
        raise UsageError(
            "MS-O306",
            "the output folder lies inside the folder that is read, so results would become input",
            file=out,
            mend="name a folder beside the input with -o",
        )
    return find_cases(source, channels=channels, options=options)


class Read:
    """A case that was read, or the error that reading it raised.

    Attributes:
        volume: or the error.
        seconds: that reading took.
    """

    def __init__(self, case: Case, channels: tuple[str, ...]) -> None:
        start = time.perf_counter()
        self.volume: Volume | Exception
        try:
            self.volume = load_case(case, channels)
        except Exception as error:  # noqa: BLE001  raised again where the case is done
            self.volume = error
        self.seconds = time.perf_counter() - start


def read_ahead(cases: Sequence[Case], channels: tuple[str, ...]) -> Iterator[Read]:
    """Read each case, one ahead of the one in use, in a thread of its own."""
    if not cases:
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="medseg-read") as pool:
        waiting = [pool.submit(Read, case, channels) for case in cases[:1]]
        for following in (*cases[1:], None):
            ready = waiting.pop().result()
            if following is not None:
                waiting.append(pool.submit(Read, following, channels))
            yield ready
            del ready
