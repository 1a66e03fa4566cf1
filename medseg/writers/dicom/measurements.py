"""The measurements of a case as a DICOM structured report (TID 1500), one group a structure.

Each group points at its segment of the SEG and bears the same tracking identifier and UID.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, cast

from highdicom.sr import (
    CodedConcept,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from medseg.writers.dicom.concepts import CONCEPTS, schemes
from medseg.writers.dicom.maker import MANUFACTURER, VERSION, common, content_uid, new_uid, settle, text
from medseg.writers.dicom.quiet import quiet
from medseg.writers.dicom.readback import MismatchError, write_checked
from medseg.writers.dicom.segments import TISSUE, coded, segments_of
from medseg.writers.dicom.sources import as_sources
from medseg.writers.dicom.template import stand_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medseg.labels import Label
    from medseg.volume import Volume
    from medseg.writers.dicom.maker import Maker
    from medseg.writers.dicom.segments import Segment
    from medseg.writers.dicom.sources import SourceLike, Sources

_ML = Code("mL", "UCUM", "milliliter")
_VOLUME = Code("118565006", "SCT", "Volume")
_DEVIATION = Code("386136009", "SCT", "Standard Deviation")
#: Column -> (concept, unit, derivation).
NUMBERS = {
    "volume_ml": (_VOLUME, _ML, None),
    "volume_sd_ml": (_VOLUME, _ML, _DEVIATION),
    **{
        column: (CONCEPTS[column], codes.UCUM.NoUnits, None)
        for column in ("voxels", "entropy_inside", "entropy_boundary", "agreement", "predicted_dice")
    },
}
_PROCEDURES = {
    "CT": Code("25045-6", "LN", "CT unspecified body region"),
    "MR": Code("25056-3", "LN", "MR unspecified body region"),
    "PT": Code("44136-0", "LN", "PET unspecified body region"),
}
#: SNOMED CT: right, left, right and left.
_SIDES = ("24028007", "7771000", "51440002")
_IMAGING = Code("363679005", "SCT", "Imaging procedure")


def write_measurements(
    path: str | Path,
    rows: Sequence[Mapping[str, object]],
    segmentation: Volume,
    sources: SourceLike,
    maker: Maker,
    *,
    seg: Dataset,
    kind: str = "binary",
    series_number: int = 1004,
) -> Dataset:
    """Write the rows of measurements.csv as a TID 1500 report, atomically.

    Args:
        path: the file.
        rows: one a structure: `structure`, `value`, the numbers of `NUMBERS` ("" or NaN: undefined, left out), and
            `flags`, which become a comment.
        segmentation: the label map, as given to `write_dicom_seg`.
        sources: as given to `write_dicom_seg`.
        maker: as given to `write_dicom_seg`.
        seg: what `write_dicom_seg` returned.
        kind: as given to `write_dicom_seg`.
        series_number: of the new series.

    Returns:
        The object that was written.

    Raises:
        InputError: MS-D402 to MS-D404 sources that cannot be named, MS-D407 no structure.
        OutputError: MS-O401 what DICOM readers would see is not what was given; MS-O101 to MS-O106.
        ValueError: a row of a structure that the label map does not have, or an infinite number.
    """
    path, sources = Path(path), as_sources(sources)
    by_value = {segment.label.value: segment for segment in segments_of(segmentation, kind, file=path)}
    strangers = [row["structure"] for row in rows if _integer(row["value"]) not in by_value]
    if strangers or not rows:
        msg = f"measurements of structures that the label map does not have: {strangers}"
        raise ValueError(msg)
    found = [(row, by_value[_integer(row["value"])], numbers_of(row)) for row in rows]
    content = [(s.number, s.label, n, row.get("flags")) for row, s, n in found]
    uid = content_uid("measurements", sources, maker, series_number, str(seg.SOPInstanceUID), content)
    with quiet():
        groups = [
            _group(segment, numbers, str(row.get("flags") or ""), sources, seg, maker)
            for row, segment, numbers in found
        ]
        report = Comprehensive3DSR(
            evidence=[seg, *_evidence(sources)],
            content=MeasurementReport(
                observation_context=_observer(maker),
                procedure_reported=_PROCEDURES.get(sources.modality, _IMAGING),
                imaging_measurements=groups,
            ),
            is_complete=True,
            transfer_syntax_uid=ExplicitVRLittleEndian,
            coding_schemes=schemes(),
            **common(
                sources,
                maker,
                series_number=series_number,
                uid=uid,
                description=f"Measurements, {maker.warning}" if maker.warning else "Measurements",
            ),
        )
        settle(report, sources, maker)
    write_checked(path, report, lambda temporary: _check(temporary, found))
    return report


def numbers_of(row: Mapping[str, object]) -> dict[str, float]:
    """The defined numbers of a row: column -> value.

    Raises:
        ValueError: an infinite one.
    """
    out = {}
    for column in NUMBERS:
        value = row.get(column)
        if value is None or value == "":
            continue
        number = float(value)  # pyright: ignore[reportArgumentType]
        if math.isinf(number):
            msg = f"{column} of {row.get('structure')!r} is infinite"
            raise ValueError(msg)
        if not math.isnan(number):
            out[column] = number
    return out


def _integer(value: object) -> int:
    return int(value)  # pyright: ignore[reportArgumentType]


def _group(
    segment: Segment, numbers: Mapping[str, float], flags: str, sources: Sources, seg: Dataset, maker: Maker
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    described = next(item for item in seg.SegmentSequence if item.SegmentNumber == segment.number)
    group = VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=described.TrackingUID, identifier=described.TrackingID),
        referenced_segment=ReferencedSegment(
            sop_class_uid=seg.SOPClassUID,
            sop_instance_uid=seg.SOPInstanceUID,
            segment_number=segment.number,
            source_series=SourceSeriesForSegmentation(sources.instances[0].series_uid),
        ),
        finding_category=coded(segment.label.category or TISSUE),
        finding_type=coded(segment.label.type or TISSUE),
        finding_sites=_sites(segment.label),
        measurements=[_measurement(column, value) for column, value in numbers.items()],
    )
    for words in (maker.warning, flags):
        if words:
            group[0].ContentSequence.append(
                TextContentItem(name=codes.DCM.Comment, value=words, relationship_type=RelationshipTypeValues.CONTAINS)
            )
    return group


def _sites(label: Label) -> list[FindingSite] | None:
    """Where a structure with a modifier lies: the finding alone would not tell left from right, or front from back."""
    if label.type is None or label.modifier is None:
        return None
    side = label.modifier.value in _SIDES
    modifier = coded(label.modifier)
    return [
        FindingSite(
            anatomic_location=coded(label.type),
            laterality=modifier if side else None,
            topographical_modifier=None if side else modifier,
        )
    ]


def _measurement(column: str, value: float) -> Measurement:
    concept, unit, derivation = NUMBERS[column]
    exact = int(value) if column == "voxels" else value
    return Measurement(name=concept, value=exact, unit=unit, derivation=derivation)


def _observer(maker: Maker) -> ObservationContext:
    return ObservationContext(
        observer_device_context=ObserverContext(
            observer_type=codes.DCM.Device,
            observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
                uid=new_uid("device", maker.bundle, maker.version, VERSION),
                name=text(f"{maker.bundle} {maker.version}"),
                manufacturer_name=MANUFACTURER,
                model_name=text(f"medseg {VERSION}"),
            ),
        )
    )


def _evidence(sources: Sources) -> list[Dataset]:
    """The source instances, of which highdicom wants patient and study too."""
    header = stand_in(sources)
    out = []
    for instance in sources.instances:
        item = Dataset()
        item.update({element.tag: element for element in header} if not out else {})
        item.SOPClassUID, item.SOPInstanceUID = instance.sop_class, instance.sop_uid
        item.StudyInstanceUID, item.SeriesInstanceUID = header.StudyInstanceUID, instance.series_uid
        out.append(item)
    return out


def _check(path: Path, found: Sequence[tuple[Mapping[str, object], Segment, Mapping[str, float]]]) -> None:
    """Compare a report with the rows that it was made from."""
    report = Comprehensive3DSR.from_dataset(dcmread(path), copy=False)
    groups = cast("MeasurementReport", report.content).get_volumetric_roi_measurement_groups()
    if len(groups) != len(found):
        msg = f"{len(groups)} groups of {len(found)}"
        raise MismatchError(msg)
    for group, (row, segment, numbers) in zip(groups, found, strict=True):
        told = {_key(m.name, m.derivation): m.value for m in group.get_measurements()}
        meant = {_key(NUMBERS[c][0], NUMBERS[c][2]): value for c, value in numbers.items()}
        segments = group.referenced_segment or ()
        number = next((item.ReferencedSOPSequence[0].ReferencedSegmentNumber for item in segments), None)
        if told != meant or number != segment.number:
            msg = f"the numbers of {row['structure']!r} differ"
            raise MismatchError(msg)


def _key(name: Code | CodedConcept, derivation: Code | CodedConcept | None) -> tuple[str, str | None]:
    return str(name.value), None if derivation is None else str(derivation.value)
