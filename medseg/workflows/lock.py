"""One run at a time in an output folder.

The operating system holds the lock (flock, or LockFile on Windows), so it ends with the process that took it,
also after kill -9 or a power cut: no lock file goes stale. Beside it stands who holds it, for the message.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from medseg.errors import OutputError
from medseg.stop import uncut
from medseg.writers.atomic import remove_leftovers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from filelock import BaseFileLock

LOCK = ".medseg.lock"
#: Holds the owner's name and unfinished files while a run lasts; nothing in it outlives the next run.
WORK = ".medseg"


@contextmanager
def output_lock(out: Path) -> Iterator[Path]:
    """Hold `out` for this process; yields an empty folder in it for unfinished files.

    What a killed run left in that folder, and half-written files beside their targets, are removed; `out` itself is made
    when it is missing.

    Raises:
        OutputError: MS-O301 another run holds the folder; MS-O302 it cannot be made or written.
    """
    work = out / WORK
    lock = FileLock(out / LOCK, timeout=0)
    try:
        with uncut():
            _take(out, work, lock)
        yield work
    finally:
        if lock.is_locked:
            with uncut():
                _leave(out, work, lock)


def _take(out: Path, work: Path, lock: BaseFileLock) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        shutil.rmtree(work, ignore_errors=True)
        remove_leftovers(out)
        work.mkdir(exist_ok=True)
        _sign(work)
    except Timeout:
        raise OutputError(
            "MS-O301",
            f"another run of medseg is writing into this folder ({_owner(out)})",
            file=out,
            mend="wait until it has ended, or name another folder with -o",
        ) from None
    except OSError as error:
        raise _unwritable(out, error) from error


def _leave(out: Path, work: Path, lock: BaseFileLock) -> None:
    shutil.rmtree(work, ignore_errors=True)
    with suppress(OSError):  # before the release: another run may hold it right after; Windows keeps the file
        (out / LOCK).unlink(missing_ok=True)
    lock.release()


def _unwritable(out: Path, error: OSError) -> OutputError:
    what = f"this folder cannot be written: {error.strerror or error}"
    if out.exists() and not out.is_dir():
        what = "there is a file of this name, a folder is needed"
    return OutputError(
        "MS-O302",
        what,
        file=out,
        mend="name a folder with -o that you may write to and that has room",
    )


def _sign(work: Path) -> None:
    owner = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    (work / "owner.json").write_text(json.dumps(owner), encoding="utf-8")


def _owner(out: Path) -> str:
    try:
        owner = json.loads((out / WORK / "owner.json").read_text(encoding="utf-8"))
        return f"process {owner['pid']} on {owner['host']} since {owner['since']}"
    except (OSError, ValueError, KeyError):
        return "its owner is not known yet"
