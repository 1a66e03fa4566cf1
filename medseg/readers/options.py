"""What a user can ask of every reader."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from medseg.errors import UsageError

_ORIENTATION = re.compile(r"(?=.*[LR])(?=.*[PA])(?=.*[IS])[LRPAIS]{3}")


@dataclass(frozen=True)
class ReadOptions:
    """How to read where a file leaves room, and how strict to be.

    Args:
        series: which of several volumes: SeriesNumber, SeriesInstanceUID or the candidate id that a ChoiceError lists.
        assume_orientation: axcodes such as 'RAS' for files that say nothing about orientation; such files are
            refused without it.
        allow_gaps: accept a DICOM series with missing slices or uneven steps; it is resampled and recorded.
        nonfinite: 'refuse' NaN and infinite voxels, or 'fill:<value>' to replace them (recorded).
        max_voxels: refuse a volume with more voxels (channels counted) before any memory is taken.
        strict: refuse where a reader would otherwise choose and record a warning.
        segments: names or numbers of the segments to read from a segmentation (DICOM SEG, RTSTRUCT, .seg.nrrd),
            with commas between, such as 'Liver,Spleen'; None: all of them. Segments that overlap are read apart.

    Raises:
        UsageError: MS-U110 for an unknown orientation, MS-U111 for an unknown `nonfinite`, MS-U112 for `max_voxels`.
    """

    series: str | None = None
    assume_orientation: str | None = None
    allow_gaps: bool = False
    nonfinite: str = "refuse"
    max_voxels: int = 2**31
    strict: bool = False
    segments: str | None = None

    def __post_init__(self) -> None:
        if self.assume_orientation is not None and not _ORIENTATION.fullmatch(self.assume_orientation):
            raise UsageError(
                "MS-U110",
                f"{self.assume_orientation!r} is not an orientation",
                mend="name each patient axis once, such as --assume-orientation RAS or LPS",
            )
        if self.nonfinite != "refuse" and _fill(self.nonfinite) is None:
            raise UsageError(
                "MS-U111",
                f"{self.nonfinite!r} is no rule for NaN and infinite voxels",
                mend="use --nonfinite refuse, or --nonfinite fill:<number> such as fill:-1024",
            )
        if self.max_voxels < 1:
            raise UsageError("MS-U112", f"max_voxels is {self.max_voxels}", mend="give a number of 1 or more")

    @property
    def wanted_segments(self) -> tuple[str, ...] | None:
        """The names or numbers in `segments`, None when all are wanted."""
        return None if self.segments is None else tuple(part.strip() for part in self.segments.split(","))

    @property
    def fill(self) -> float | None:
        """The value that replaces NaN and infinite voxels, None when they are refused."""
        return _fill(self.nonfinite)


def _fill(text: str) -> float | None:
    try:
        word, number = text.split(":", 1)
        value = float(number)
    except ValueError:
        return None
    return value if word == "fill" and math.isfinite(value) else None
