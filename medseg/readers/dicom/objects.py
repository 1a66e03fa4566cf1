"""Which DICOM objects are images of a volume, and what the others are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.uid import UID

from medseg.errors import InputError

if TYPE_CHECKING:
    from medseg.readers.dicom.headers import Header

_STORAGE = "1.2.840.10008.5.1.4.1.1."
SECONDARY_CAPTURE = _STORAGE + "7"
SEGMENTATIONS = (_STORAGE + "66.4", _STORAGE + "66.7")
STRUCTURE_SET = _STORAGE + "481.3"
_VOLUMES = {
    _STORAGE + end
    for end in (
        "2", "2.1", "2.2",  # CT, enhanced, legacy converted
        "4", "4.1", "4.4",  # MR
        "128", "130", "128.1",  # PET
        "13.1.1", "13.1.2", "13.1.3",  # X-ray 3D: angiographic, craniofacial, breast tomosynthesis
        "6.2", "77.1.5.4",  # ultrasound volume, optical coherence tomography
        "7", "7.2", "7.3",  # secondary captures, when they have a place in space
        "20",  # nuclear medicine
    )
}  # fmt: skip


def kind_of(header: Header) -> str:
    """'dicom' for an image, 'dicom-seg', 'dicom-rtstruct', or 'dicom-other'."""
    sop = header.get("sop_class") or ""
    if sop in SEGMENTATIONS:
        return "dicom-seg"
    if sop == STRUCTURE_SET:
        return "dicom-rtstruct"
    return "dicom" if refusal(header) is None else "dicom-other"


def refusal(header: Header) -> InputError | None:
    """Why a file holds no image of a volume, None when it does.

    The error is MS-D120 another kind of object, MS-D121 a colour image or MS-D122 a localizer.
    """
    sop = header.get("sop_class") or ""
    if sop and sop not in _VOLUMES:
        name = UID(sop).name.replace(" Storage", "")
        return _error(header, "MS-D120", f"this is no image of a volume ({name})")
    if not sop and header.get("rows") is None:
        return _error(header, "MS-D120", "this DICOM object holds no image")
    if (header.get("samples") or 1) != 1 or header.get("photometric") == "PALETTE COLOR":
        return _error(header, "MS-D121", f"this is a colour image ({header.get('photometric')})")
    if sop.startswith(SECONDARY_CAPTURE) and header.get("position") is None:
        return _error(header, "MS-D120", "this is a secondary capture (a picture without a place in space)")
    return None


def is_localizer(header: Header) -> bool:
    """Whether ImageType calls it a localizer (scout, topogram)."""
    return any(word.upper().startswith(("LOCALI", "SCOUT")) for word in header.get("image_type") or ())


def localizer_refusal(header: Header) -> InputError:
    """MS-D122: a series of nothing but localizers."""
    return _error(header, "MS-D122", "this series holds only localizer images")


def _error(header: Header, code: str, what: str) -> InputError:
    return InputError(code, what, file=header.path, mend="name the CT, MR or PET series instead")
