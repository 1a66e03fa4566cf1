"""When memory runs out: what is tried next, and how it is said.

    smaller window batch (halved until 1) -> blend on the CPU -> network on the CPU -> MemoryLimitError

Each step restarts the volume: what is allocated is allocated at the first windows, so little work is lost, and the
result does not depend on where it failed. Nothing is silent: every step is an `Event`.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from medseg.errors import MemoryLimitError

T = TypeVar("T")

# What the backends say when an allocation fails and the exception is a bare RuntimeError.
WORDS = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "out of memory",
    "could not allocate",
    "alloc_failed",
)


@dataclass(frozen=True)
class Event:
    """Something the inferer decided by itself.

    Args:
        code: stable identifier, explained in docs/errors.
        message: what was decided and why, in one sentence.
    """

    code: str
    message: str


@dataclass(frozen=True)
class Placement:
    """Where the work is done.

    Args:
        batch: windows at a time.
        network: device of the network.
        sums: device of the blended sums.
    """

    batch: int
    network: torch.device
    sums: torch.device


def next_placement(placement: Placement, cpu_batch: Callable[[], int]) -> tuple[Placement, Event] | None:
    """The step after `placement`, which did not fit; None after the last.

    Args:
        placement: what was tried.
        cpu_batch: the window batch to begin with on a CPU.
    """
    cpu = torch.device("cpu")
    if placement.batch > 1:
        smaller = replace(placement, batch=placement.batch // 2)
        said = f"out of memory on {placement.network}: {_windows(smaller.batch)} at a time instead of {placement.batch}"
        return smaller, Event("MS-M201", said)
    if placement.sums != cpu:
        said = f"out of memory on {placement.network} with one window at a time: windows are blended on the CPU"
        return replace(placement, sums=cpu), Event("MS-M202", said)
    if placement.network != cpu:
        said = f"out of memory on {placement.network}: the network runs on the CPU, which is slower"
        return Placement(cpu_batch(), cpu, cpu), Event("MS-M203", said)
    return None


def with_fallbacks(
    attempt: Callable[[Placement], T],
    placement: Placement,
    cpu_batch: Callable[[], int],
    events: list[Event],
    does_not_fit: Callable[[str], MemoryLimitError],
) -> T:
    """Try a volume where the network is, then down the ladder.

    Args:
        attempt: does the whole volume.
        placement: to begin with.
        cpu_batch: the window batch to begin with on a CPU.
        events: receives what was decided.
        does_not_fit: makes the error after the last step from what the failure said.
    """
    while True:
        try:
            return attempt(placement)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failure = (str(error).strip() or type(error).__name__).splitlines()[0]
        release()  # here, outside the handler: the traceback held the tensors
        step = next_placement(placement, cpu_batch)
        if step is None:
            raise does_not_fit(failure)
        placement, event = step
        events.append(event)


def release() -> None:
    """Give freed memory back before the next attempt."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _windows(count: int) -> str:
    return f"{count} window{'s' * (count != 1)}"


def is_out_of_memory(error: BaseException) -> bool:
    """True for every way in which torch, numpy and Python say that an allocation failed."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in WORDS)
