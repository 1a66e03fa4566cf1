"""Sources without identity, and what an object made from them says of that: DICOM PS3.15 Annex E, basic profile.

Everything that a result says of patient, study and scanner it has from its `Sources`. So these are stripped, by a list of
what may stay, before an object is made; nothing has to be found and removed afterwards.

    Patient, study         name and ID: a pseudonym; birth date, sex, accession number, referring physician, study ID,
                           date and time: empty; everything else is gone (Z and X of table E.1-1)
    UIDs                   of instances, series, study and frame of reference: others under 2.25, made with a secret, the
                           same for the same UID in every object (U)
    Dates                  those that an object must have: 1 January 1900 (D)
    Equipment              of the source: gone; the maker of the result stays: a bundle and medseg, which are of no site
    Text, content          series descriptions, names of structures, the tree of a report: none of it is from the source
                           (Clean Descriptors and Clean Structured Content options)

Not touched: the place and shape of the anatomy. The pixels of the source are in none of these objects.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.sr.codedict import codes

from medseg.writers.dicom.anatomy import known_part, laterality

if TYPE_CHECKING:
    from medseg.writers.dicom.sources import Sources

#: Of a source, what a result needs and nobody is known by: beside UIDs, patient and body part, which are made anew.
KEPT = ("Modality", "SeriesNumber")
_MAPPED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
METHOD = "medseg: DICOM PS3.15 basic profile, from a list of what may stay"
#: Of the basic profile: remove, wherever it stands.
_GONE = ("ContributingEquipmentSequence", "InstanceCreationDate", "InstanceCreationTime", "InstanceCreatorUID")


@dataclass(frozen=True)
class Deidentifier:
    """What turns identifiers into others.

    Args:
        secret: without it nobody can tell which is whose; the same gives the same.
    """

    secret: bytes

    def uid(self, uid: str) -> str:
        """Another UID, always the same for this one."""
        return f"2.25.{uuid.UUID(bytes=self._digest('uid', uid)[:16], version=5).int}"

    def patient(self, patient_id: str) -> str:
        """A pseudonym of a PatientID, so that scans of one patient stay together."""
        return f"patient-{self._digest('patient', patient_id.strip()).hex()[:12]}"

    def _digest(self, kind: str, text: str) -> bytes:
        return hmac.new(self.secret, f"dicom {kind}\0{text}".encode(), hashlib.sha256).digest()


def deidentified(sources: Sources, by: Deidentifier) -> Sources:
    """Sources from which an object is made that says nothing of who it is about.

    Args:
        sources: see `read_sources`.
        by: what turns UIDs and the PatientID into others.
    """
    old, header = sources.header, Dataset()
    header.SOPClassUID = old.SOPClassUID
    for name in _MAPPED:
        setattr(header, name, by.uid(str(old[name].value)))
    for name in KEPT:
        if old.get(name) not in (None, ""):
            setattr(header, name, old[name].value)
    # Without a PatientID the study is all that holds scans together.
    header.PatientID = by.patient(str(old.get("PatientID") or "").strip() or str(old.StudyInstanceUID))
    header.PatientName = header.PatientID
    if part := known_part(old):
        header.BodyPartExamined = part
    if (side := laterality(old)) != "U":
        header.ImageLaterality = side
    instances = tuple(replace(i, sop_uid=by.uid(i.sop_uid), series_uid=by.uid(i.series_uid)) for i in sources.instances)
    return replace(sources, instances=instances, header=header, deidentified=True)


def say_so(dataset: Dataset) -> None:
    """Put into an object made from such sources what the profile asks for, and take out what the library added."""
    for name in _GONE:
        if name in dataset:
            del dataset[name]
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = METHOD
    options = [
        codes.DCM.BasicApplicationConfidentialityProfile,
        codes.DCM.CleanStructuredContentOption,
        codes.DCM.CleanDescriptorsOption,
    ]
    dataset.DeidentificationMethodCodeSequence = [CodedConcept.from_code(code) for code in options]
    dataset.LongitudinalTemporalInformationModified = "REMOVED"
