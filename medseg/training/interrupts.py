"""Ctrl-C and SIGTERM wait for the end of a step, so that a checkpoint of it can be written."""

from __future__ import annotations

import logging
import signal
import threading
from typing import Any

from medseg.stop import WATCHED, Stopped


class Interrupts:
    """Signals that were heard.

    Attributes:
        heard: the first signal since `watch`, None as long as there was none.
    """

    def __init__(self) -> None:
        self.heard: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def watch(self) -> None:
        """Hear them from now on; only Python's main thread can, elsewhere nothing changes."""
        if threading.current_thread() is not threading.main_thread() or self._before:
            return
        self.heard = None
        asked = [one for one in WATCHED if signal.getsignal(one) != signal.SIG_IGN]  # nohup, a shell's background
        self._before = {one: signal.signal(one, self._hear) for one in asked}

    def release(self) -> None:
        """Give the signals back to whoever had them."""
        for one, handler in self._before.items():
            signal.signal(one, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def obey(self) -> None:
        """Stop now, where a signal was heard.

        Raises:
            Stopped: by that signal.
        """
        if self.heard is not None:
            raise Stopped(self.heard)

    def _hear(self, number: int, frame: object) -> None:
        del frame
        if self.heard is not None:
            self.release()
            raise Stopped(number)
        self.heard = signal.Signals(number)
        logging.getLogger(__name__).warning(
            "%s: stopping after this step, or validation; a checkpoint is written (once more: stop at once)",
            self.heard.name,
        )
