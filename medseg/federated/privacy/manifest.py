"""The manifest of a site: `audit.jsonl`, one line for every message that left or was refused, written before it leaves.

A line is appended and synced before the message is handed on; where that fails, nothing is sent. It holds what left in
words and sums, never the weights themselves.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from medseg.federated.privacy.allow_list import OutgoingError

if TYPE_CHECKING:
    from pathlib import Path

#: Its name, in the top folder of a site's kit.
FILE = "audit.jsonl"
SENT, REFUSED, NOTHING = "sent", "refused", "no result"


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Add one line and its time; it is on the disk when this returns.

    Raises:
        OutgoingError: MS-J119 it cannot be written, so nothing may be sent.
    """
    # Not atomic_write: a log grows, and what stands in it must never be written again. One write of one line, synced.
    line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="seconds"), **row}, allow_nan=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            data = line.encode("utf-8")
            if os.write(handle, data) != len(data):
                raise OSError("disk full")
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise OutgoingError(
            "MS-J119",
            f"the manifest cannot be written ({error.strerror or error}); nothing was sent",
            file=path,
            mend="free space on that disk, or give the account that runs the site permission to write there",
        ) from error


def read_rows(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Every line of a manifest, in order, and how many lines cannot be read (a machine that lost power left one)."""
    rows, broken = [], 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict):
            rows.append(row)
        else:
            broken += bool(line.strip())
    return rows, broken
