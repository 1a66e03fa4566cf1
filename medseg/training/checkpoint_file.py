"""Checkpoints on disk: whole or not there, known by their content, and the one before kept.

A file is named `resume_<iteration>-<hash>.pt`, the hash being the first 16 digits of the SHA-256 of its bytes: what was
damaged after it was written is found before it is loaded. (torch 2.13 loads a .pt file of which bits were flipped
without a word: it does not compare the zip's checksums.)
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
from typing import TYPE_CHECKING, Any

import torch

from medseg.errors import InputError
from medseg.writers.atomic import remove_leftovers, sha256, write_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: So many digits of the hash stand in the name.
_DIGITS = 16
_NAME = re.compile(rf"resume_(\d+)-([0-9a-f]{{{_DIGITS}}})\.pt")


def write_checkpoint(folder: Path, state: Mapping[str, Any], iteration: int, keep: int = 2) -> Path:
    """Write a checkpoint, then remove older ones.

    Args:
        folder: of the checkpoints; made when missing.
        state: plain data and tensors, as `torch.load(weights_only=True)` reads them.
        iteration: how many training steps it has.
        keep: so many newest ones stay, this one included.

    Returns:
        The file.

    Raises:
        OutputError: MS-O101 disk full and so on, as `medseg.writers.atomic`; earlier checkpoints stay as they are.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    content = buffer.getvalue()
    path = folder / f"resume_{iteration:08d}-{_digest(content)}.pt"
    write_bytes(path, content)
    for old in checkpoints(folder)[keep:]:
        old.unlink(missing_ok=True)
    return path


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, the furthest first."""
    found = [path for path in folder.glob("resume_*.pt") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: (int(_match(path)[1]), path.stat().st_mtime), reverse=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load one, to the CPU.

    Raises:
        InputError: MS-T162 its bytes are not those that were written, or they are no checkpoint.
    """
    wanted = _match(path)[2]
    mend = "it is left out: the checkpoint before it is used where there is one"
    try:
        if sha256(path)[:_DIGITS] != wanted:
            raise InputError(
                "MS-T162", "this checkpoint is damaged: its bytes are not those written", file=path, mend=mend
            )
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        what = f"this checkpoint cannot be read ({error.strerror or error})"
        raise InputError("MS-T162", what, file=path, mend=mend) from error


def latest_sound(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The furthest checkpoint that is whole, and what it holds; damaged ones are named in the log and left out.

    Raises:
        InputError: MS-T104 there is none, MS-T162 all are damaged.
    """
    remove_leftovers(folder)
    found = checkpoints(folder)
    damaged: InputError | None = None
    for path in found:
        try:
            return path, read_checkpoint(path)
        except InputError as error:
            logging.getLogger(__name__).warning("%s", error)
            damaged = damaged or error
    if damaged is not None:
        raise damaged
    raise InputError("MS-T104", "no checkpoint to go on from", file=folder, mend="start the run without --resume")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


def _match(path: Path) -> re.Match[str]:
    found = _NAME.fullmatch(path.name)
    if found is None:
        raise InputError(
            "MS-T162", "this is no checkpoint of medseg: its name holds no hash", file=path,
            mend="give it the name back that it was written under",
        )  # fmt: skip
    return found
