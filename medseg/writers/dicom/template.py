"""The stand-in for its sources from which highdicom makes a derived object, and the references put in afterwards.

highdicom reads patient, study and geometry from the source images, and gives up on many that are in daily use:
enhanced objects with an orientation per frame, mosaics, a PatientSex or a date of another spelling, an absent name. So
it gets one clean single-frame header that lies where the first frame does, and the references to the true sources,
which it would have made itself, are put in here.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from highdicom import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage
from pydicom.valuerep import DA, TM

from medseg.writers.dicom.frames import origins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom.sr.coding import Code

    from medseg.writers.dicom.frames import FrameGrid
    from medseg.writers.dicom.sources import SourceFrame, Sources

_EMPTY = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex")
_STUDY = ("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName")
_DATES = {"PatientBirthDate": DA, "StudyDate": DA, "StudyTime": TM}
#: Patient, study, series, equipment and image stand before it.
_GROUPS_END = 0x0030
_PATIENT_FRAME = "PATIENT"


def stand_in(sources: Sources, frames: FrameGrid | None = None) -> Dataset:
    """A clean single-frame CT header of the sources' patient and study, at the place of the first frame."""
    header = sources.header
    out = Dataset()
    for tag in header.keys():  # noqa: SIM118 - iterating a Dataset decodes its elements, odd ones too
        if tag.is_private or tag.group >= _GROUPS_END:
            continue
        with suppress(ValueError, TypeError, OverflowError):  # a number that is none: of no use to anyone
            element = header[tag]  # decoded in the source's own character set
            if element.VR != "SQ":
                out.add(element)
    out.pop("NumberOfFrames", None)
    for name in (*_EMPTY, *_STUDY):
        if out.get(name) is None:
            setattr(out, name, "")
    for name, kind in _DATES.items():
        try:
            kind(str(out.get(name) or ""))
        except ValueError:
            setattr(out, name, "")
    if out.PatientSex not in ("M", "F", "O"):
        out.PatientSex = ""
    out.SOPClassUID = CTImageStorage
    if frames is not None:
        out.Rows, out.Columns = frames.shape
        out.PixelSpacing = list(frames.spacing)
        out.SliceThickness = out.SpacingBetweenSlices = frames.step_mm
        out.ImageOrientationPatient = [float(x) for x in frames.axes.ravel()]
        out.ImagePositionPatient = [float(x) for x in frames.positions[0]]
    return out


def placement(frames: FrameGrid, planes: Sequence[int]) -> dict:
    """The arguments that tell highdicom where the frames `planes` lie."""
    return {
        "plane_positions": [
            PlanePositionSequence(_PATIENT_FRAME, list(map(float, frames.positions[k]))) for k in planes
        ],
        "plane_orientation": PlaneOrientationSequence(_PATIENT_FRAME, list(map(float, frames.axes.ravel()))),
        "pixel_measures": PixelMeasuresSequence(
            pixel_spacing=frames.spacing, slice_thickness=frames.step_mm, spacing_between_slices=frames.step_mm
        ),
    }


def refer(dataset: Dataset, sources: Sources, frames: FrameGrid, derivation: Code) -> None:
    """Put in the references to the true sources: all of them for the object, and for each frame those it shows."""
    dataset.SourceImageSequence = [_reference(i.sop_class, i.sop_uid) for i in sources.instances]
    dataset.ReferencedSeriesSequence = series_references(sources)
    how = CodedConcept.from_code(derivation)
    # One object a plane, shared by the frames of its segments: of 100 structures there are thousands of frames.
    shown = [_derivation(found, sources, how) for found in origins(frames, sources)]
    for group in dataset.PerFrameFunctionalGroupsSequence:
        position = [float(x) for x in group.PlanePositionSequence[0].ImagePositionPatient]
        group.DerivationImageSequence = shown[frames.nearest(np.array(position))]


def series_references(sources: Sources) -> list[Dataset]:
    """Every source instance, by series."""
    out = []
    for uid, instances in sources.by_series.items():
        item = Dataset()
        item.SeriesInstanceUID = uid
        item.ReferencedInstanceSequence = [_reference(i.sop_class, i.sop_uid) for i in instances]
        out.append(item)
    return out


def _reference(sop_class: str, sop_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_uid
    return item


def _derivation(shown: Sequence[SourceFrame], sources: Sources, how: CodedConcept) -> list[Dataset]:
    if not shown:
        return []
    item = Dataset()
    item.DerivationCodeSequence = [how]
    images = []
    for frame in shown:
        instance = sources.instances[frame.instance]
        image = _reference(instance.sop_class, instance.sop_uid)
        if frame.number is not None:
            image.ReferencedFrameNumber = frame.number
        image.PurposeOfReferenceCodeSequence = [
            CodedConcept.from_code(codes.cid7202.SourceImageForImageProcessingOperation)
        ]
        image.SpatialLocationsPreserved = "YES"
        images.append(image)
    item.SourceImageSequence = images
    return [item]
