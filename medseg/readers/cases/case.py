"""One case: what will be read, and what the result will be called."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medseg.readers.options import ReadOptions

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.errors import MedsegError


@dataclass(frozen=True)
class Case:
    """A scan to segment, or to learn from.

    Args:
        name: unique among the cases found together, safe as a file name on every system.
        images: one file a channel, in the order of the bundle's channels; or one file with all of them (4D); or
            one DICOM folder.
        label: the label map that belongs to it, None when there is none, or it is open which of `maps`.
        options: how to read it.
        error: why it cannot be read, known before reading; `load_case` raises it.
        maps: every label map that belongs to it by its name or its grid, where a folder was looked through.
        by_grid: those of them that name no image and lie on the grid of this one.
    """

    name: str
    images: tuple[Path, ...]
    label: Path | None = None
    options: ReadOptions = field(default_factory=ReadOptions)
    error: MedsegError | None = None
    maps: tuple[Path, ...] = ()
    by_grid: tuple[Path, ...] = ()
