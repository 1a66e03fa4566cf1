"""What the headers of a DICOM case say of the patient, the people and the hospital, so that no message repeats it.

medseg's own messages quote no such tag; a library's may. Nothing of this is kept or written.
"""

from __future__ import annotations

import warnings
from itertools import islice
from typing import TYPE_CHECKING

from pydicom.multival import MultiValue

from medseg.errors import MedsegError
from medseg.readers.dicom.deflated import read_tags
from medseg.readers.dicom.headers import find_files
from medseg.readers.sniff import sniff
from medseg.workflows.identity.hide import telling

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydicom import DataElement, Dataset

#: People, numbers and places (of PS3.15's table E.1-1), and free text, in which any of them may stand.
_KINDS = ("PN", "LO", "SH", "LT", "ST", "UT", "UC", "DA", "DT")
#: Of these kinds, what names a technique and no one.
_PLAIN = frozenset({
    "Manufacturer", "ManufacturerModelName", "SoftwareVersions", "ConvolutionKernel", "TransmitCoilName", "SequenceName",
    "CodeMeaning", "CodeValue", "CodingSchemeDesignator", "BodyPartThickness", "FilterType", "ContrastBolusAgent",
})  # fmt: skip
#: Of values that nothing says the meaning of (private tags), shorter ones are words of a technique.
_SHORTEST_PRIVATE = 6
#: Values of this group and those behind it place and describe pixels.
_GROUPS_END = 0x0041
#: So many files of a case are looked at: its headers are alike in what they say of the patient.
_FILES = 2


def values_in(root: Path) -> dict[str, str]:
    """Value -> what may stand instead, such as '[PatientName]', of the first files of a DICOM folder or of one file."""
    try:
        files = find_files(root) if root.is_dir() else [root]
        files = list(islice((file for file in files if sniff(file) == "dicom"), _FILES))
    except (MedsegError, OSError):
        return {}
    found: dict[str, str] = {}
    for file in files:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found |= dict(_values(read_tags(file)))
        except Exception:  # noqa: BLE001  pydicom raises many kinds; whoever reads the case says what is wrong
            continue
    return found


def _values(dataset: Dataset) -> Iterator[tuple[str, str]]:
    for element in dataset:
        if element.tag.group >= _GROUPS_END and not element.tag.is_private:
            continue
        if element.VR == "SQ":
            for item in element.value or ():
                yield from _values(item)
        elif element.tag.is_private or (element.VR in _KINDS and element.keyword not in _PLAIN):
            yield from _of(element)


def _of(element: DataElement) -> Iterator[tuple[str, str]]:
    instead = "[private tag]" if element.tag.is_private else f"[{element.keyword}]"
    several = element.value if isinstance(element.value, MultiValue | list | tuple) else [element.value]
    for value in several:
        if isinstance(value, bytes):
            text = value.decode("latin-1").strip("\0 ") if value.isascii() else ""
        else:
            text = str(value if value is not None else "").strip()
        words = {text, *(text.split("^") if element.VR == "PN" else ()), text.replace("^", " ")}
        for word in words:
            if telling(word) and (not element.tag.is_private or len(word) >= _SHORTEST_PRIVATE):
                yield word, instead
