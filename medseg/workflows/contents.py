"""Files of a folder by what is in them: a recorded input is found again wherever it lies and whatever it is called."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.writers.atomic import sha256

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Contents:
    """The files below a folder; one is read when another of its size is asked for.

    Args:
        source: a folder; of a file (a scan, a list of cases), the folder that it lies in.
        sizes: bytes of the files that will be asked for.
    """

    def __init__(self, source: Path, sizes: Iterable[int]) -> None:
        wanted = set(sizes)
        top = source if source.is_dir() else source.parent
        self._by_size: dict[int, list[Path]] = {}
        for folder, _, names in os.walk(top):
            for path in (Path(folder, name) for name in sorted(names)):
                if path.is_file() and (size := path.stat().st_size) in wanted:
                    self._by_size.setdefault(size, []).append(path)
        self._hash = cache(sha256)

    def find(self, row: Mapping[str, Any]) -> list[Path]:
        """The files that a row of `record["input"]["files"]` (bytes, sha256) tells of."""
        return [path for path in self._by_size.get(row["bytes"], ()) if self._hash(path) == row["sha256"]]
