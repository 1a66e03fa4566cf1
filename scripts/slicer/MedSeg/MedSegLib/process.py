"""A command that runs beside Slicer: its lines as they come, never a wait, and a cancel that leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from typing import IO, TYPE_CHECKING

from MedSegLib.errors import MedSegError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: How long each politer way of ending gets before the next, s: interrupt, terminate, kill.
GRACE_S = 3.0
_WINDOWS = os.name == "nt"


class Process:
    """A running command; `poll` is called from a timer and returns at once.

    Args:
        command: its words.
        environ: its environment.
        grace_s: see `GRACE_S`.

    Raises:
        MedSegError: it could not be started.
    """

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], *, grace_s: float = GRACE_S) -> None:
        options = {"creationflags": 0x200 | 0x08000000} if _WINDOWS else {"start_new_session": True}  # group, no window
        try:
            self._child = subprocess.Popen(
                list(command),
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                **options,
            )
        except OSError as error:
            what = f"medseg could not be started: {error.strerror or error}"
            raise MedSegError(what, "choose another medseg executable under Settings", file=command[0]) from error
        self.cancelled = False
        self.returncode: int | None = None
        self.lines: list[str] = []
        self._grace_s = grace_s
        self._asked = 0
        self._asked_at = self._ended_at = 0.0
        self._new: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stdout: list[bytes] = []
        self._readers = [
            threading.Thread(target=self._read_lines, args=(self._child.stderr,), daemon=True),
            threading.Thread(target=self._read_all, args=(self._child.stdout,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """Its process id, which on POSIX names its group too."""
        return self._child.pid

    @property
    def stdout(self) -> str:
        """What it wrote to standard output so far."""
        return b"".join(self._stdout).decode("utf-8", "replace")

    def poll(self) -> list[str]:
        """New lines of standard error. Sets `returncode` once it has ended and everything was read."""
        if self.returncode is None:
            self._press()
            code = self._child.poll()
            if code is not None:
                self._ended_at = self._ended_at or time.monotonic()
                if self.cancelled:
                    self._signal_all(2)  # whom it started must not outlive it
                # who holds the pipes open beyond its end is not waited for
                waited = time.monotonic() - self._ended_at > self._grace_s
                if waited or not any(reader.is_alive() for reader in self._readers):
                    self.returncode = code
        new = []
        with contextlib.suppress(queue.Empty):
            while True:
                new.append(self._new.get_nowait())
        self.lines += new
        return new

    def cancel(self) -> None:
        """Ask it to stop as Ctrl-C does; `poll` asks harder and harder when it does not listen."""
        if not self.cancelled and self.returncode is None:
            self.cancelled = True
            self._asked_at = time.monotonic()
            self._signal_all(0)

    def kill(self) -> None:
        """End it now, with all that it started, and wait for that."""
        if self.returncode is None:
            self.cancelled = True
            self._signal_all(2)
            self._child.wait()
            self.poll()

    def _press(self) -> None:
        if self.cancelled and self._asked < 2 and time.monotonic() - self._asked_at > self._grace_s:
            self._asked += 1
            self._asked_at = time.monotonic()
            self._signal_all(self._asked)

    def _signal_all(self, strength: int) -> None:
        """To the whole group: 0 interrupt, 1 terminate, 2 kill."""
        if _WINDOWS:
            if strength == 0:
                with contextlib.suppress(OSError):
                    self._child.send_signal(signal.CTRL_BREAK_EVENT)
            else:  # the launcher of a console script is not medseg itself: /T takes the tree
                words = ["taskkill", "/F", "/T", "/PID", str(self._child.pid)]
                subprocess.run(words, capture_output=True, check=False, creationflags=0x08000000)
            return
        # SIGINT lets medseg tidy up; macOS answers EPERM for a group that has already ended
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)[strength])

    def _read_lines(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                self._new.put(line.decode("utf-8", "replace").rstrip("\r\n"))

    def _read_all(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                self._stdout.append(line)
