"""Enhanced multi-frame files: each frame's place, grey scale and instant from its functional groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medseg.errors import GeometryError, InputError
from medseg.readers.dicom.planes import Plane, header_keys

if TYPE_CHECKING:
    from pydicom import Dataset

    from medseg.readers.dicom.headers import Header

# Dimensions that only count slices along a stack separate no volumes.
_SPATIAL = {0x00209057, 0x00200032, 0x00209113, 0x00200037, 0x00209116, 0x00209056, 0x0020930F, 0x00280010}
_FRAME_TYPES = (
    "MRImageFrameTypeSequence",
    "CTImageFrameTypeSequence",
    "PETFrameTypeSequence",
    "XRay3DFrameTypeSequence",
)


def frame_planes(header: Header) -> list[Plane]:
    """The planes of a multi-frame file, in the file's order.

    Raises:
        GeometryError: MS-D115 without functional groups, or with another number of them than frames.
        InputError: MS-D101 when they cannot be parsed.
    """
    count = header.get("frames") or 1
    dataset = header.dataset
    per_frame = None if dataset is None else dataset.get("PerFrameFunctionalGroupsSequence")
    if dataset is None or not per_frame or len(per_frame) != count:
        found = "no" if not per_frame else str(len(per_frame))
        raise GeometryError(
            "MS-D115",
            f"{count} frames with {found} functional groups: the place of each frame is not known",
            file=header.path,
            mend="export it as an enhanced multi-frame object or as one file per slice",
        )
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    pointers = [int(d.get("DimensionIndexPointer") or 0) for d in dataset.get("DimensionIndexSequence") or []]
    base = header_keys(header)
    try:
        return [_frame_plane(header, n, _Groups(frame, shared), pointers, base) for n, frame in enumerate(per_frame)]
    except Exception as error:  # pydicom raises many kinds on damaged files
        raise InputError(
            "MS-D101",
            f"its functional groups cannot be parsed ({type(error).__name__}: {error})",
            file=header.path,
            mend="copy or export it again",
        ) from error


class _Groups:
    """The functional groups of one frame: its own, else the shared ones."""

    def __init__(self, frame: Dataset, shared: Dataset | None) -> None:
        self._levels = [frame] if shared is None else [frame, shared]

    def __call__(self, group: str, name: str) -> Any:
        for level in self._levels:
            sequence = level.get(group)
            if sequence:
                value = sequence[0].get(name)
                if value is not None:
                    return value
        return None

    def numbers(self, group: str, name: str) -> tuple[float, ...] | None:
        value = self(group, name)
        if value is None or value == "":
            return None
        return tuple(float(v) for v in value) if hasattr(value, "__iter__") else (float(value),)

    def number(self, group: str, name: str) -> float | None:
        values = self.numbers(group, name)
        return values[0] if values else None


def _frame_plane(header: Header, n: int, groups: _Groups, pointers: list[int], base: dict[str, Any]) -> Plane:
    orientation = groups.numbers("PlaneOrientationSequence", "ImageOrientationPatient")
    return Plane(
        header=header,
        rows=header.get("rows"),
        cols=header.get("cols"),
        position=groups.numbers("PlanePositionSequence", "ImagePositionPatient"),
        orientation=orientation,
        spacing=groups.numbers("PixelMeasuresSequence", "PixelSpacing"),
        slope=groups.number("PixelValueTransformationSequence", "RescaleSlope"),
        intercept=groups.number("PixelValueTransformationSequence", "RescaleIntercept"),
        thickness=groups.number("PixelMeasuresSequence", "SliceThickness"),
        step=groups.number("PixelMeasuresSequence", "SpacingBetweenSlices"),
        frame=n,
        keys={**base, **_frame_keys(groups, pointers)},
    )


def _frame_keys(groups: _Groups, pointers: list[int]) -> dict[str, Any]:
    kind = None
    for sequence in _FRAME_TYPES:
        if kind := groups(sequence, "FrameType"):
            kind = "\\".join([*kind, str(groups(sequence, "ComplexImageComponent") or "")])
            break
    index = groups("FrameContentSequence", "DimensionIndexValues")
    index = list(index) if hasattr(index, "__iter__") else [index]
    instant = tuple(v for p, v in zip(pointers, index, strict=False) if p not in _SPATIAL)
    gradient = groups("MRDiffusionSequence", "DiffusionGradientDirectionSequence")
    keys = {
        "image type": kind,
        "echo time": groups.number("MREchoSequence", "EffectiveEchoTime"),
        "repetition time": groups.number("MRTimingAndRelatedParametersSequence", "RepetitionTime"),
        "flip angle": groups.number("MRTimingAndRelatedParametersSequence", "FlipAngle"),
        "b-value": groups.number("MRDiffusionSequence", "DiffusionBValue"),
        "gradient direction": tuple(gradient[0].get("DiffusionGradientOrientation") or ()) if gradient else None,
        "cardiac phase": groups.number("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase"),
        "stack": groups("FrameContentSequence", "StackID"),
        "dimension index": instant or None,
        "temporal position": groups.number("FrameContentSequence", "TemporalPositionIndex"),
        "acquisition": groups.number("FrameContentSequence", "FrameAcquisitionNumber"),
        "acquisition time": groups("FrameContentSequence", "FrameAcquisitionDateTime"),
    }
    return {name: value for name, value in keys.items() if value not in (None, "", ())}
