"""Files that are there whole or not at all: written beside the target, synced, read again, then renamed.

A process that is killed, or a disk that fills up, leaves no visible file; at most a hidden temporary one, which
`remove_leftovers` knows by its name. Renaming within one folder is atomic on POSIX and on NTFS.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Every temporary file begins with this. The real name follows, so that writers see the right extension.
TEMPORARY_PREFIX = ".medseg-tmp-"

_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
_BINARY = getattr(os, "O_BINARY", 0)  # Windows
#: Seconds between attempts to replace a file that another program holds open (Windows).
_PATIENCE = (0.05, 0.1, 0.2, 0.4, 0.8)


def atomic_write(
    path: str | Path, write: Callable[[Path], object], *, check: Callable[[Path], object] | None = None
) -> None:
    """Make the file `path` by `write(temporary)`, so that it appears complete or not at all.

    Args:
        path: the target; its folder is made when missing. A symbolic link is replaced, not followed.
        write: writes the whole content to the path that it is given (same folder, same extension).
        check: reads that file again and raises when it is not what was meant.

    Raises:
        OutputError: MS-O101 disk full, MS-O102 no permission, MS-O103 any other failure of the file system,
            MS-O104 nothing was written, MS-O105 `check` failed, MS-O106 the target is open in another program.
    """
    path = Path(path)
    with _named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(6)}-{path.name[-150:]}")
    try:
        with _named(path):
            write(temporary)
            if not temporary.is_file():
                raise OutputError(
                    "MS-O104", "nothing was written", file=path, mend="look for room and permission in its folder"
                )
            _sync(temporary)
        if check is not None:
            _checked(temporary, path, check)
        with _named(path):
            _replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def move(source: Path, target: Path) -> None:
    """Rename a finished file to its place on the same disk, replacing what is there; errors as for `atomic_write`."""
    with _named(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(source, target)
    _sync_folder(target.parent)


def write_bytes(path: str | Path, data: bytes, *, private: bool = False) -> None:
    """Write `data` as one atomic file; errors as for `atomic_write`.

    Args:
        path: the target.
        data: its content.
        private: nobody but this user may read it, where the file system knows users.
    """

    def write(temporary: Path) -> None:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600 if private else 0o666)
        with os.fdopen(handle, "wb") as file:
            file.write(data)

    atomic_write(path, write, check=lambda p: _require(p.read_bytes() == data))


def write_text(path: str | Path, text: str, *, private: bool = False) -> None:
    """Write `text` as UTF-8 with its newlines as they are; as `write_bytes`."""
    write_bytes(path, text.encode("utf-8"), private=private)


def write_new(path: str | Path, text: str, *, private: bool = False) -> bool:
    """As `write_text`, and never over a file that is there: of two processes one wins, and False says to the other that it lost."""
    path = Path(path)
    whole = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(6)}-new-{path.name[-150:]}")
    write_text(whole, text, private=private)
    try:
        os.link(whole, path)  # unlike a rename, it fails where the name is taken
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        if path.exists():
            return False
        move(whole, path)
    else:
        return True
    finally:
        whole.unlink(missing_ok=True)
    return True


def write_json(path: str | Path, data: Any) -> None:
    """Write plain data (paths and numpy numbers too) as indented JSON; errors as for `atomic_write`.

    Raises:
        ValueError: NaN or infinity, for which JSON has no word.
        TypeError: an object that is no plain data.
    """
    write_text(path, json_text(data))


def json_text(data: Any) -> str:
    """Plain data as the text that `write_json` writes: one content has one text.

    Raises:
        ValueError, TypeError: see `write_json`.
    """
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False, default=_plain) + "\n"


def sha256(path: str | Path) -> str:
    """The file's SHA-256, 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_leftovers(folder: str | Path) -> list[Path]:
    """Remove temporary files that a killed run left anywhere under `folder`, and say which.

    Only for whoever holds the lock on `folder`: a running process may own such a file.
    """
    removed = []
    for path in sorted(Path(folder).rglob(f"{TEMPORARY_PREFIX}*")):
        if path.is_file():
            with contextlib.suppress(OSError):
                path.unlink()
                removed.append(path)
    return removed


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn the file system's errors into OutputErrors that name the target and the mend."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _FULL:
            raise OutputError(
                "MS-O101",
                f"no room to write it ({reason}); nothing was left behind",
                file=path,
                mend="free space on that disk (or raise the quota), then run the same command with --resume",
            ) from error
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            raise OutputError(
                "MS-O102",
                f"not allowed to write it ({reason})",
                file=path,
                mend="choose a folder that you may write to",
            ) from error
        raise OutputError(
            "MS-O103", f"cannot be written ({reason})", file=path, mend="choose another output folder with -o"
        ) from error


def _checked(temporary: Path, path: Path, check: Callable[[Path], object]) -> None:
    try:
        check(temporary)
    except Exception as error:
        raise OutputError(
            "MS-O105",
            f"what was written could not be read back ({type(error).__name__}: {error}); nothing was left behind",
            file=path,
            mend="the disk or its connection is failing: choose another folder and check the disk",
        ) from error


def _replace(temporary: Path, path: Path) -> None:
    for wait in (*_PATIENCE, None):
        try:
            temporary.replace(path)
        except PermissionError:
            if wait is None:
                if not path.exists():
                    raise
                raise OutputError(
                    "MS-O106",
                    "it cannot be replaced: another program has it open, or it is protected",
                    file=path,
                    mend="close it in 3D Slicer or any other viewer, then run the same command with --resume",
                ) from None
            time.sleep(wait)
        else:
            return


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the new name itself durable, where the platform can open a folder."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _require(same: bool) -> None:
    if not same:
        msg = "the bytes differ"
        raise ValueError(msg)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    msg = f"{type(value).__name__} is no plain data: {value!r}"
    raise TypeError(msg)
