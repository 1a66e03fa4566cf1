"""A label table as the segments of a DICOM SEG: number, name, codes, colour, tracking, and the voxels of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
from highdicom.sr import CodedConcept

from medseg.errors import InputError, UsageError
from medseg.labels import Code, LabelTable
from medseg.writers.dicom.maker import algorithm, text, tracking_uid

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.labels import Label
    from medseg.volume import Volume
    from medseg.writers.dicom.maker import Maker
    from medseg.writers.dicom.sources import Sources

KINDS = ("binary", "labelmap")
#: What 3D Slicer calls a structure that has no codes.
TISSUE = Code("SCT", "85756007", "Tissue")


@dataclass(frozen=True)
class Segment:
    """One segment.

    Args:
        number: 1, 2, ... in the table's order where segments are binary (DICOM leaves no gaps there); the label's own
            value in a label map.
        label: the structure.
        values: the values of the label map that belong to it.
    """

    number: int
    label: Label
    values: tuple[int, ...]


def segments_of(segmentation: Volume, kind: str = "binary", *, file: Path | None = None) -> tuple[Segment, ...]:
    """The segments of a label map, structures without voxels included, values that its table lacks at the end.

    Raises:
        UsageError: MS-D406 nested structures, which overlap, as a label map.
        InputError: MS-D407 there is no structure at all.
    """
    if kind not in KINDS:
        msg = f"a SEG is one of {KINDS}, got {kind!r}"
        raise ValueError(msg)
    array = segmentation.array
    if array.dtype.kind not in "bui" or array.ndim != 3 or array.min() < 0 or array.max() >= 2**16:
        msg = f"a label map is (I, J, K) of integers from 0 to 65535, got {array.shape} {array.dtype}"
        raise ValueError(msg)
    table = segmentation.labels or LabelTable(())
    known = {v for label in table for v in (label.value, *label.region)}
    strangers = LabelTable.from_values(v for v in values_in(array) if v not in known)
    labels = (*table, *strangers)
    if not labels:
        raise InputError(
            "MS-D407",
            "the label map is empty and names no structure: a DICOM SEG holds at least one segment",
            file=file,
            mend="give the label map its label table",
        )
    nested = [label.name for label in labels if label.region]
    if kind == "labelmap" and nested:
        raise UsageError(
            "MS-D406",
            f"{', '.join(nested)} contain other structures; a label map holds one value a voxel",
            file=file,
            mend="write binary segments, which may overlap (the default)",
        )
    if kind == "labelmap":  # numbers are values, and stand in their order
        labels = tuple(sorted(labels, key=lambda label: label.value))
    return tuple(
        Segment(n if kind == "binary" else label.value, label, label.region or (label.value,))
        for n, label in enumerate(labels, start=1)
    )


def values_in(array: np.ndarray) -> list[int]:
    """The values that occur, 0 apart."""
    if array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        seen = np.zeros(np.iinfo(array.dtype).max + 1, bool)
        for plane in array:  # bincount copies to 64 bits: plane by plane that stays in the cache
            found = np.bincount(plane.ravel(order="K")) > 0
            seen[: len(found)] |= found
        return [int(v) for v in np.flatnonzero(seen) if v]
    return [int(v) for v in np.unique(array) if v]


def describe(segments: Sequence[Segment], sources: Sources, maker: Maker) -> list[SegmentDescription]:
    """The segments as DICOM describes them."""
    out = []
    for segment in segments:
        label = segment.label
        item = SegmentDescription(
            segment_number=segment.number,
            segment_label=text(label.name),
            segmented_property_category=coded(label.category or TISSUE),
            segmented_property_type=coded(label.type or TISSUE),
            algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm(maker),
            tracking_id=text(f"{maker.bundle}: {label.name}"),
            tracking_uid=tracking_uid(label.name, sources, maker),
            display_color=CIELabColor.from_rgb(*label.colour),
        )
        if label.modifier is not None:
            kind = item.SegmentedPropertyTypeCodeSequence[0]
            kind.SegmentedPropertyTypeModifierCodeSequence = [coded(label.modifier)]
        if segment.values != (segment.number,):
            values = ", ".join(map(str, segment.values))
            item.SegmentDescription = f"label value{'s' * (len(segment.values) > 1)} {values} of the label map"
        out.append(item)
    return out


def coded(code: Code) -> CodedConcept:
    """A code of the label table as DICOM's."""
    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=text(code.meaning))


def pixels(frames: np.ndarray, segments: Sequence[Segment]) -> np.ndarray:
    """(n, rows, cols) of label values as highdicom takes them: of segment numbers, with a segment axis where nested."""
    if any(segment.label.region for segment in segments):
        return np.stack([member(frames, segment) for segment in segments], axis=-1).view(np.uint8)
    most = max(int(frames.max()), *(v for s in segments for v in s.values)) + 1
    table = np.zeros(most, np.uint8 if segments[-1].number < 256 else np.uint16)
    for segment in segments:
        table[list(segment.values)] = segment.number
    return table[frames]


def member(frames: np.ndarray, segment: Segment) -> np.ndarray:
    """Where `frames` belongs to a segment."""
    mask = frames == segment.values[0]
    for value in segment.values[1:]:
        mask |= frames == value
    return mask
