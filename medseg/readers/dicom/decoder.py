"""Compressed frames, decoded by one child process that is used again and again.

Native decoders have crashed, hung and eaten all memory on files made to do that, so they never run in this process
(`decode_child.py` says what the child does). Each frame has a limit of memory, from what its header says it takes, and of
time. A child that crashes, hangs or eats too much is an error of that one file; the next file gets a new child.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.uid import UID

from medseg.errors import InputError, MemoryLimitError
from medseg.readers.dicom.headers import DEFLATED

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from medseg.readers.dicom.headers import Header

#: What is started; tests start one that misbehaves.
COMMAND: tuple[str, ...] = (sys.executable, "-P", "-W", "ignore", str(Path(__file__).with_name("decode_child.py")))
#: Seconds for a child to import what it needs, for a frame, and for each million pixels of it: on a busy machine, the slowest
#: codec. A file is read as from a slow share.
START_S, FRAME_S, FRAME_S_PER_MILLION, READ_BYTES_S = 60.0, 20.0, 5.0, 5e6
#: Bytes beyond a child at rest, whatever a frame is; copies of a frame that decoders make, and of its file.
SPARE, COPIES, FILE_COPIES = 128 << 20, 24, 3
#: Frames that are asked for before the first is there, so that the child need not wait.
_AHEAD = 2
_LONGEST_LINE = 1 << 16
_MEND = "copy or export this slice again, best uncompressed"


def decoded(frames: Sequence[tuple[Header, int]]) -> Generator[np.ndarray]:
    """(rows, cols) stored values of each frame (a file's header, a number from 0) in turn, native byte order.

    The array may be written to. While one is worked on, the next is being decoded.

    Raises:
        InputError: MS-D111 a frame cannot be decoded, MS-D141 its decoder crashed, MS-D142 it took too long.
        MemoryLimitError: MS-D143 it took more memory than such a frame can need.
    """
    with _lock:
        child = _running()
        asked = got = 0
        try:
            for header, _ in frames:
                while asked < min(got + _AHEAD, len(frames)):
                    asked += 1  # first: an interrupt between the two must not leave an answer that nobody waits for
                    child.ask(*frames[asked - 1])
                image = child.answer(header)
                got += 1
                yield image
        finally:
            if asked != got:  # what it says next would be taken for the answer to something else
                child.close()


class _Child:
    """The process, its pipes, and who started it."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.late = False
        env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
        self.process = subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env
        )
        with suppress(
            ImportError, AttributeError, OSError
        ):  # Linux: a frame fits, so the child goes on to the next one
            import fcntl

            fcntl.fcntl(self.process.stdout, fcntl.F_SETPIPE_SZ, 1 << 20)  # pyright: ignore[reportCallIssue, reportArgumentType]
        if self._line(START_S) is None:
            self.close()
            raise InputError(
                "MS-D141",
                "the process that decodes compressed pixels does not start",
                mend="type medseg doctor, or export the series uncompressed",
            )

    @property
    def usable(self) -> bool:
        return self.owner == os.getpid() and self.process.poll() is None

    def ask(self, header: Header, frame: int) -> None:
        memory, seconds = limits(header)
        request = {
            "path": str(header.path.absolute()),
            "syntax": header.syntax,
            "frame": frame,
            "shape": [header.get("rows"), header.get("cols")],
            "memory": memory,
            "seconds": seconds,
        }
        with suppress(OSError):  # it is gone: `answer` says so, of the file that it was busy with
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()

    def answer(self, header: Header) -> np.ndarray:
        seconds = limits(header)[1]
        said = self._line(seconds)
        if said is None:
            raise self._gone(header, seconds)
        if said.get("memory"):
            self.close()
            raise _too_much(header)
        if "error" in said:
            raise InputError(
                "MS-D111",
                f"its compressed pixel data ({UID(header.syntax).name}) cannot be decoded: {said['error']}",
                file=header.path,
                mend=_MEND,
            )
        image = self._pixels(said, header, seconds)
        if image is None:
            raise self._gone(header, seconds)
        return image

    def _line(self, seconds: float) -> dict[str, Any] | None:
        """The next line, None when there is none in time."""
        assert self.process.stdout is not None
        with self._watched(seconds):
            line = self.process.stdout.readline(_LONGEST_LINE)
        try:
            said = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            said = None
        return said if isinstance(said, dict) else None

    def _pixels(self, said: dict[str, Any], header: Header, seconds: float) -> np.ndarray | None:
        dtype, shape = np.dtype(str(said.get("dtype"))), (header.get("rows"), header.get("cols"))
        if dtype.kind not in "iu" or dtype.itemsize > 4 or said.get("shape") != list(shape):
            self.close()
            return None
        image = np.empty(shape, dtype)
        view, done = memoryview(image.data).cast("B"), 0
        assert self.process.stdout is not None
        with self._watched(seconds):
            while done < len(view):
                got = self.process.stdout.readinto(view[done:])  # pyright: ignore[reportAttributeAccessIssue]
                if not got:
                    return None
                done += got
        return image

    def _watched(self, seconds: float) -> _Watch:
        return _Watch(self, seconds)

    def _gone(self, header: Header, seconds: float) -> InputError:
        """The error of a child that gave no answer."""
        self.close()
        name = UID(header.syntax).name
        if self.late:
            return InputError(
                "MS-D142",
                f"its compressed pixel data ({name}) was not decoded within {seconds:.0f} s, and the decoder was stopped",
                file=header.path,
                mend=_MEND,
            )
        return InputError(
            "MS-D141",
            f"the decoder of its compressed pixel data ({name}) crashed ({_how(self.process.returncode)})",
            file=header.path,
            mend=_MEND,
        )

    def close(self) -> None:
        """End the process; safe to call twice."""
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        if self.process.poll() is None:
            try:
                self.process.wait(0.2)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


class _Watch:
    """Kills the child when the block takes too long: reading from it then ends."""

    def __init__(self, child: _Child, seconds: float) -> None:
        self.child = child
        self.timer = threading.Timer(seconds, self._stop)
        self.timer.daemon = True

    def _stop(self) -> None:
        self.child.late = True
        self.child.process.kill()

    def __enter__(self) -> None:
        self.timer.start()

    def __exit__(self, *_: object) -> None:
        self.timer.cancel()


def limits(header: Header) -> tuple[int, float]:
    """(bytes beyond a child at rest, seconds) that decoding a frame of a file may take."""
    pixels = header.get("rows") * header.get("cols")
    frame = pixels * max((header.get("bits_allocated") or 16) // 8, 1)
    at_once = (header.get("frames") or 1) if header.syntax == DEFLATED else 1  # deflated files unpack as a whole
    memory = SPARE + COPIES * frame * at_once + FILE_COPIES * header.size
    return memory, FRAME_S + FRAME_S_PER_MILLION * pixels * at_once / 1e6 + header.size / READ_BYTES_S


def stop_decoder() -> None:
    """End the child, if there is one; the next compressed frame starts another."""
    global _child
    if not _lock.acquire(timeout=5):  # somebody holds frames that nobody reads: the child sees the end of its input
        return
    try:
        if _child is not None and _child.owner == os.getpid():
            _child.close()
        _child = None
    finally:
        _lock.release()


def _running() -> _Child:
    global _child
    if _child is None or not _child.usable:
        _child = _Child()
    return _child


def _too_much(header: Header) -> MemoryLimitError:
    return MemoryLimitError(
        "MS-D143",
        f"decoding its pixel data ({UID(header.syntax).name}) takes more than {limits(header)[0] / 2**20:.0f} MiB, more than "
        f"{header.get('rows')} x {header.get('cols')} pixels can need",
        file=header.path,
        mend=_MEND,
    )


def _how(code: int | None) -> str:
    """-11 -> 'SIGSEGV', 3 -> 'exit code 3'."""
    if code is not None and code < 0:
        with suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"


def _forked() -> None:
    """A forked process shares the pipes of its parent's child: it must use neither them nor a lock that may be held."""
    global _lock, _child
    _lock = threading.Lock()
    if _child is not None:
        _inherited.append(_child)
        _child = None


_lock = threading.Lock()
_child: _Child | None = None
_inherited: list[_Child] = []
atexit.register(stop_decoder)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
