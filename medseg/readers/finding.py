"""One row of `medseg inspect`: what was found, and what would become of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.volume import Decision


@dataclass(frozen=True)
class Finding:
    """A file or series and the verdict on it.

    Args:
        path: the file, or the folder of the series.
        name: what a result of it would be called; never a patient tag.
        format: as in `Source.format`, or what `sniff` says of a file that is no image.
        verdict: 'ok', 'ok: <what would be done>' such as 'ok: resampled from 20.0 degrees of tilt', or 'refused'.
        modality: DICOM's term, None where the format does not say.
        shape: (I, J, K) or (C, I, J, K), None when it could not be known.
        spacing_mm: per spatial axis, mm.
        axcodes: patient direction of each array axis, e.g. 'LPS'.
        code: of the error when refused.
        message: what was found and the mend when refused.
        series: what to type for --series to pick this one, None where there is no choice.
        decisions: what reading would record.
        description: what the file says of itself; for the screen only.
        files: how many files belong to it.
    """

    path: Path
    name: str
    format: str
    verdict: str
    modality: str | None = None
    shape: tuple[int, ...] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    axcodes: str | None = None
    code: str | None = None
    message: str = ""
    series: str | None = None
    decisions: tuple[Decision, ...] = ()
    description: str = ""
    files: int = 1

    @property
    def refused(self) -> bool:
        """Whether it would not be used."""
        return self.verdict == "refused"
