"""Records that tell whether they are as they were written.

The last entry of a record, `digest`, is the SHA-256 of the text of all others, and a record has one text only (that of
`write_json`). So whatever is changed in the file, a bit or a space, shows. This tells of accidents and of careless
hands; who wants to deceive can write a new digest: for that, keep the digest of OUT/record.json elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from medseg.errors import RecordError
from medseg.workflows.record import SCHEMA
from medseg.writers.atomic import json_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DIGEST = "digest"
#: A record is some kilobytes; what is larger is none and is not read.
_LARGEST = 64_000_000


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with its digest as last entry; a digest that it already has is made anew."""
    rest = {key: value for key, value in record.items() if key != DIGEST}
    return {**rest, DIGEST: hashlib.sha256(json_text(rest).encode("utf-8")).hexdigest()}


def read_sealed(path: Path) -> dict[str, Any]:
    """A record that is as it was written.

    Raises:
        RecordError: MS-V101 there is none, or no record of medseg; MS-V102 it was changed.
    """
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            raise RecordError(
                "MS-V101",
                "there is no record here",
                file=path,
                mend="name the folder that medseg predict was given with -o, or a record.json in it",
            )
        content = path.read_bytes()
    except OSError as error:
        what = f"it cannot be read: {error.strerror or error}"
        raise RecordError("MS-V101", what, file=path, mend="mend the permissions or the disk") from error
    try:
        record = json.loads(content)
        whole = isinstance(record, dict) and json_text(sealed(record)).encode("utf-8") == content
    except (ValueError, RecursionError):
        record, whole = None, False
    if isinstance(record, dict) and DIGEST not in record and record.get("schema") == SCHEMA:
        raise RecordError(
            "MS-V101",
            "this record has no digest: another command than medseg predict wrote it, or somebody took it out",
            file=path,
            mend="name the folder that medseg predict was given with -o",
        )
    if not whole:
        raise RecordError(
            "MS-V102",
            "this record is not as medseg wrote it: its digest does not fit its text",
            file=path,
            mend="take the record from a copy, or make the results again: medseg predict with --resume",
        )
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise RecordError(
            "MS-V101",
            f"a record of another kind ({SCHEMA} is wanted)",
            file=path,
            mend="use the version of medseg that made it, or make the results again",
        )
    return record


def is_sealed(path: Path) -> bool:
    """Whether there is a record that is as it was written."""
    try:
        read_sealed(path)
    except RecordError:
        return False
    return True
