"""The lines of an NRRD header: its fields, its key:=value pairs, and the names of its data files, all as text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from medseg.errors import InputError

if TYPE_CHECKING:
    from io import BufferedIOBase
    from pathlib import Path

#: Longest header that is looked at; a segmentation with a thousand segments stays below 1 MiB.
_MAX_HEADER = 1 << 24


def read_fields(stream: BufferedIOBase, path: Path) -> tuple[dict[str, str], dict[str, str], tuple[str, ...]]:
    """The lines up to the first empty one, after which `stream` is left; those of a LIST go on to the end of the file.

    Returns:
        Fields by name in small letters, the key:=value pairs, and the names of data files: () when the values follow.

    Raises:
        InputError: MS-R101 a header that does not end, or a line that is no field; MS-R105 data files by a pattern.
    """
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    files: list[str] = []
    total, listing = 0, False
    stream.readline(_MAX_HEADER)  # the magic, which `sniff` has seen
    while raw := stream.readline(_MAX_HEADER):
        total += len(raw)
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if not line and not listing:
            break
        if total > _MAX_HEADER:
            raise broken(path, "its header does not end")
        if line.startswith("#") or not line:
            continue
        if listing:
            files.append(line.strip())
        elif ":=" in line and not re.match(r"[a-z ]+: ", line):
            key, value = line.split(":=", 1)
            pairs[key.strip()] = value
        elif ": " in line or line.endswith(":"):
            key, value = line.split(":", 1)
            key = " ".join(key.lower().split())
            fields[{"datafile": "data file", "lineskip": "line skip", "byteskip": "byte skip"}.get(key, key)] = (
                value.strip()
            )
            listing = fields.get("data file", "").split(" ")[0] == "LIST"
        else:
            raise broken(path, f"its header has a line that is no field: {line[:60]!r}")
    named = fields.get("data file", "")
    if named and not listing:
        if "%" in named:
            raise InputError(
                "MS-R105", f"its data files are a pattern ({named})", file=path, mend="save it as one .nrrd file"
            )
        files = [named]
    return fields, pairs, tuple(files)


def broken(path: Path, what: str) -> InputError:
    """MS-R101 of a header that breaks the rules of NRRD."""
    return InputError("MS-R101", what, file=path, mend="copy the file again, or write it again from its source")
