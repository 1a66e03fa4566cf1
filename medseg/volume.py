"""A volume: an array, where it lies, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from medseg.geometry import Grid, reorientation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np

    from medseg.labels import LabelTable


@dataclass(frozen=True)
class Decision:
    """Something a reader had to decide, repair or could not know; it is shown and goes into record.json.

    Args:
        code: stable identifier such as `MS-N210`, explained under docs/errors/.
        message: one sentence with the numbers.
        warning: whether the user should look at it (a plain record otherwise).
    """

    code: str
    message: str
    warning: bool = True


@dataclass(frozen=True)
class Source:
    """Where a volume came from, without any patient data.

    Args:
        path: what the user named: a file or a folder.
        format: 'nifti', 'nrrd', 'metaimage', 'dicom', 'dicom-seg', 'dicom-rtstruct' or 'array'.
        files: every file that was read, in the order of the slices or channels.
        modality: DICOM's term ('CT', 'MR', 'PT', ...), None where the format does not say.
        series_uid: DICOM SeriesInstanceUID.
        series_number: DICOM SeriesNumber.
        frame_of_reference: DICOM FrameOfReferenceUID.
        description: what the file says of itself (series description), for tables on the screen only.
        channels: names of the channels of a (C, I, J, K) array, () for (I, J, K).
        decisions: see `Decision`.
        details: further facts of the format (echo time, b-value, geometry verdict), plain data.
    """

    path: Path | None = None
    format: str = "array"
    files: tuple[Path, ...] = ()
    modality: str | None = None
    series_uid: str | None = None
    series_number: int | None = None
    frame_of_reference: str | None = None
    description: str = ""
    channels: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Volume:
    """An image or label map in space.

    Args:
        array: (I, J, K), or (C, I, J, K) with channels first, in the file's own axis order.
        affine: (4, 4) float64, voxel index (i, j, k) -> RAS mm.
        source: where it came from.
        labels: what the values of a label map mean, when the file says so.
    """

    array: np.ndarray
    affine: np.ndarray
    source: Source = Source()
    labels: LabelTable | None = None

    def __post_init__(self) -> None:
        if self.array.ndim not in (3, 4):
            msg = f"a volume is (I, J, K) or (C, I, J, K), got {self.array.shape}"
            raise ValueError(msg)
        object.__setattr__(self, "affine", self.grid.affine)

    @cached_property
    def grid(self) -> Grid:
        """Shape of the spatial axes and affine."""
        i, j, k = self.array.shape[-3:]
        return Grid((i, j, k), self.affine)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxel centres along each array axis, mm."""
        return self.grid.spacing_mm

    def reoriented(self, axcodes: str = "RAS") -> Volume:
        """This volume with its axes permuted and flipped to point to `axcodes`; voxels are not resampled."""
        turn = reorientation(self.grid, axcodes)
        return replace(self, array=turn.apply(self.array), affine=turn.apply_grid(self.grid).affine)

    def with_decisions(self, *decisions: Decision) -> Volume:
        """This volume with further decisions recorded in its source."""
        return replace(self, source=replace(self.source, decisions=(*self.source.decisions, *decisions)))
