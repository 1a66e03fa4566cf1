"""What leaves a run other than by its report: errors with their causes, warnings and lines of logs (`--debug` shows them)."""

from __future__ import annotations

import logging
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

from medseg.errors import MedsegError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from medseg.workflows.identity.teller import Teller


@contextmanager
def guarded(tell: Callable[[], Teller]) -> Iterator[None]:
    """Errors, warnings and logs of the block tell nobody's name.

    Args:
        tell: gives the teller; asked only when there is something to tell.
    """
    show = warnings.showwarning
    hidden = _Hidden(tell)
    handlers = logging.getLogger().handlers[:]

    def shown(message, category, filename, lineno, file=None, line=None) -> None:
        show(tell().text(str(message)), category, filename, lineno, file, line)

    warnings.showwarning = shown
    for handler in handlers:
        handler.addFilter(hidden)
    try:
        yield
    except Exception as error:
        told(error, tell())
        raise
    finally:
        for handler in handlers:
            handler.removeFilter(hidden)
        if warnings.showwarning is shown:
            warnings.showwarning = show


def told(error: BaseException, teller: Teller) -> None:
    """Have an error, and what caused it, tell files and words as the teller does."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, MedsegError):
            teller.tell(one)
            continue
        one.args = tuple(teller.text(word) if isinstance(word, str) else word for word in one.args)
        if isinstance(one, OSError):
            one.strerror = None if one.strerror is None else teller.text(one.strerror)
            one.filename = None if one.filename is None else teller.path(str(one.filename))


class _Hidden(logging.Filter):
    def __init__(self, tell: Callable[[], Teller]) -> None:
        super().__init__()
        self.tell = tell
        self.busy = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(self.busy, "now", False):  # looking for what is to be hidden, a library wrote a line
            return False
        self.busy.now = True
        try:
            record.msg, record.args = self.tell().text(record.getMessage()), ()
            if record.exc_info and record.exc_info[1] is not None:
                told(record.exc_info[1], self.tell())
        finally:
            self.busy.now = False
        return True
