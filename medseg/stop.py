"""Ctrl-C and SIGTERM: a run stops on either, keeps what must not be cut in two whole, and its exit code says which came.

    with stoppable():               # the command line: SIGTERM stops as Ctrl-C does, both raise Stopped
        for case in cases:
            go_on()                 # raises it again where a library has swallowed it
            result = work(case)     # stops anywhere in here ...
            with uncut():           # ... but not in here: what comes meanwhile is heard at the end
                publish(result)

Python hears signals in its main thread alone, and only between two of its own steps: a long call into a library comes to
its end first.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

WATCHED = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal asked this process to end.

    Args:
        number: of the signal.

    Attributes:
        exit_code: 128 + the number, as a shell has it: 130 of Ctrl-C, 143 of SIGTERM.
    """

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        self.exit_code = 128 + self.signal
        super().__init__(self.signal.name)
        if _watch.active:
            _watch.heard = self


class _Watch:
    """Whether a `stoppable` is in force, what was heard in it, and how many `uncut` blocks hold it back."""

    def __init__(self) -> None:
        self.active = False
        self.heard: Stopped | None = None
        self.blocks = 0
        self.came: int | None = None


_watch = _Watch()


@contextmanager
def stoppable() -> Iterator[None]:
    """Both signals raise `Stopped`; the handlers before come back at the end.

    A signal that is ignored stays so (`nohup`, the background of a shell), and one that somebody else hears is theirs.
    Of the processes of torchrun the first alone hears SIGTERM: in the others it would wait for a call that waits for the
    first.
    """
    if threading.current_thread() is not threading.main_thread() or _watch.active:
        yield
        return
    first = os.environ.get("RANK", "0") in ("", "0")
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    mine = [one for one in (WATCHED if first else WATCHED[:1]) if signal.getsignal(one) == usual[one]]
    try:
        _watch.active, _watch.blocks = True, 0
        for one in mine:
            signal.signal(one, _stop)
        yield
    finally:
        for one in mine:
            signal.signal(one, usual[one])
        _watch.active, _watch.heard, _watch.came = False, None, None


@contextmanager
def uncut() -> Iterator[None]:
    """Nothing in the block is cut short by a signal: it is heard at the end, by whoever heard it before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    theirs: dict[signal.Signals, Any] = {}
    came: list[int] = []
    _watch.blocks += 1  # from here on `_stop` raises nothing
    try:
        for one in WATCHED:
            handler = signal.getsignal(one)
            if handler not in (_stop, signal.SIG_IGN, None):
                theirs[one] = handler
                signal.signal(one, lambda number, _frame: came.append(number))
        yield
    finally:
        for one, handler in theirs.items():
            signal.signal(one, handler)
        _watch.blocks -= 1
        if came:
            signal.raise_signal(came[0])
        if _watch.blocks == 0 and _watch.came is not None:
            number, _watch.came = _watch.came, None
            raise Stopped(number)


def go_on() -> None:
    """Nothing, unless a `Stopped` was raised in this `stoppable` and got lost: it is raised again then.

    Raises:
        Stopped: as it was.
    """
    if _watch.heard is not None:
        raise _watch.heard


def stopped_by() -> Stopped | None:
    """What was heard since this `stoppable` began."""
    return _watch.heard


def _stop(number: int, _frame: object) -> None:
    if _watch.blocks:
        _watch.came = number
    else:
        raise Stopped(number)
