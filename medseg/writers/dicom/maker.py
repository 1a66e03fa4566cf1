"""What made a derived object, and what follows from it: identifiers, times, the equipment it names.

Nothing here is drawn at random or read from the clock: the same sources, data, bundle and version give the same file,
byte for byte, and other content another SOPInstanceUID.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from pydicom.sr.codedict import codes
from pydicom.valuerep import DA, TM

from medseg.writers.dicom.deidentify import say_so

if TYPE_CHECKING:
    from pydicom import Dataset

    from medseg.writers.dicom.sources import Sources

MANUFACTURER = "medseg"
#: Of medseg itself.
VERSION = metadata.version("medseg")
CHARSET = "ISO_IR 192"
_WHEN = (
    ("SeriesDate", "SeriesTime"),
    ("AcquisitionDate", "AcquisitionTime"),
    ("ContentDate", "ContentTime"),
    ("StudyDate", "StudyTime"),
)
_UNKNOWN = datetime(1900, 1, 1)  # DICOM's local time, of a source without any date


@dataclass(frozen=True)
class Maker:
    """What made the results.

    Args:
        bundle: its name.
        version: its version.
        warning: what must be seen first, such as "OUTSIDE TRAINING DOMAIN"; "" for nothing.
        when: the time that the objects state; None: that of the source series.
    """

    bundle: str
    version: str
    warning: str = ""
    when: datetime | None = None


def new_uid(*parts: object) -> str:
    """A UID under 2.25 that follows from `parts`: texts, numbers, arrays (their numbers, type and shape)."""
    digest = hashlib.sha256()
    for part in parts:
        head = f"{part.dtype.str}{part.shape}" if isinstance(part, np.ndarray) else str(part)
        digest.update(f"{len(head)}:{head}".encode())
        if isinstance(part, np.ndarray):
            digest.update(np.ascontiguousarray(part).data)
    return f"2.25.{uuid.UUID(bytes=digest.digest()[:16], version=5).int}"


def content_uid(kind: str, sources: Sources, maker: Maker, *content: object) -> str:
    """The UID of an object of `kind` that holds `content`."""
    made_by = (maker.bundle, maker.version, maker.warning, time_of(sources, maker), VERSION)
    return new_uid(kind, *(s.sop_uid for s in sources.instances), *made_by, *content)


def tracking_uid(name: str, sources: Sources, maker: Maker) -> str:
    """The UID by which one structure of one series is the same in every object that tells of it."""
    return new_uid("tracking", *sources.by_series, maker.bundle, name)


def time_of(sources: Sources, maker: Maker) -> datetime:
    """The time that objects state: the maker's, else the first that the source series has."""
    if maker.when is not None:
        return maker.when
    for date, time in _WHEN:
        if day := _parsed(DA, sources.header.get(date)):
            clock = _parsed(TM, sources.header.get(time))
            return datetime(day.year, day.month, day.day, *((clock.hour, clock.minute, clock.second) if clock else ()))
    return _UNKNOWN


def _parsed(kind: type, value: Any) -> Any:
    try:
        return kind(str(value)) if value else None
    except ValueError:
        return None


def algorithm(maker: Maker) -> AlgorithmIdentificationSequence:
    """The bundle as DICOM's algorithm identification."""
    return AlgorithmIdentificationSequence(
        name=text(maker.bundle),
        family=codes.cid7162.ArtificialIntelligence,
        version=text(maker.version),
        source=MANUFACTURER,
    )


def common(sources: Sources, maker: Maker, *, series_number: int, uid: str, description: str) -> dict[str, Any]:
    """The arguments that every highdicom object takes."""
    when = time_of(sources, maker)
    return {
        "series_instance_uid": new_uid("series", uid),
        "series_number": series_number,
        "series_description": text(description),
        "sop_instance_uid": uid,
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": text(maker.bundle),
        "device_serial_number": text(f"{maker.bundle} {maker.version}"),
        "software_versions": text(f"medseg {VERSION}"),
        "specific_character_set": CHARSET,
        "content_date": DA(when.date()),
        "content_time": TM(when.time()),
    }


def settle(dataset: Dataset, sources: Sources, maker: Maker) -> None:
    """Replace what highdicom takes from the clock or draws at random; of de-identified sources, say so."""
    when = time_of(sources, maker)
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = DA(when.date()), TM(when.time())
    for item in dataset.get("ContributingEquipmentSequence") or []:
        if item.get("ManufacturerModelName") == "highdicom":
            item.ContributionDateTime = when.strftime("%Y%m%d%H%M%S")
    if "DimensionOrganizationSequence" in dataset:
        uid = new_uid("dimensions", str(dataset.SOPInstanceUID))
        for item in [*dataset.DimensionOrganizationSequence, *(dataset.get("DimensionIndexSequence") or [])]:
            item.DimensionOrganizationUID = uid
    if sources.deidentified:
        say_so(dataset)


def text(words: str, most: int = 64) -> str:
    """`words` as a DICOM long string: no backslash, no control characters, at most 64 characters."""
    clean = "".join(c if c.isprintable() and c != "\\" else "/" if c == "\\" else " " for c in words)
    return clean[:most].strip()
