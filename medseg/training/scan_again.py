"""Where the scan of a recorded prediction lies.

A record tells its files relative to what was segmented, and does not tell where that lies. So a scan is looked for below
the folders at hand, and taken only when it is the one that was segmented, byte for byte.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError
from medseg.writers.atomic import sha256

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_COPY = "image.nii.gz"


def scan_again(folder: Path, record: Mapping[str, Any], near: Iterable[Path]) -> str | list[str]:
    """The scan of a case: where it was read from, else the copy of it in the case's folder.

    Args:
        folder: of the case.
        record: of the case.
        near: folders that may be, or hold, what was segmented.

    Raises:
        InputError: MS-T182 there is neither, or of several channels only the copy, which holds the first.
    """
    told = record.get("input") or {}
    paths = [str(path) for path in told.get("paths", ())]
    found = [path for path in paths if Path(path).is_absolute() and Path(path).exists()]
    copied = folder / _COPY
    several = len(paths) > 1 or len(told.get("channels") or ()) > 1
    if copied.is_file() and not several and not found:
        return str(copied)
    if len(found) < len(paths):
        found = _recorded(paths, told.get("files", ()), near)
    if paths and len(found) == len(paths):
        return found[0] if len(found) == 1 else found
    if copied.is_file() and not paths:
        return str(copied)
    raise InputError(
        "MS-T182",
        "the scan that was segmented is not at hand" + (", and it has several channels" if several else ""),
        file=Path(paths[0]) if paths else copied,
        mend="run this from the folder that holds the scans that were segmented, or predict again",
    )


def _recorded(paths: list[str], rows: Iterable[Mapping[str, Any]], near: Iterable[Path]) -> list[str]:
    """The files below one of the folders, or of a folder in them, that are those of the record; [] where there are none."""
    wanted = {int(row["root"]): (row["bytes"], row["sha256"]) for row in rows}
    for place in near:
        for base in (place, *sorted(p for p in place.iterdir() if p.is_dir())):
            files = [base / path for path in paths]
            if all(_is(file, wanted.get(n)) for n, file in enumerate(files)):
                return [str(file) for file in files]
    return []


def _is(file: Path, wanted: tuple[int, str] | None) -> bool:
    return wanted is not None and file.is_file() and file.stat().st_size == wanted[0] and sha256(file) == wanted[1]
