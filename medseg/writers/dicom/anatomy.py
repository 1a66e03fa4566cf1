"""The body region and side of a source, as frames of an enhanced object must state them.

Codes: DICOM PS3.16 Annex L, table L-1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.sr.coding import Code

if TYPE_CHECKING:
    from pydicom import Dataset

WHOLE_BODY = Code("38266002", "SCT", "Entire body")
#: BodyPartExamined -> region. Any other value, and none at all, is the entire body: true, if not precise.
REGIONS = {
    "ABDOMEN": Code("818981001", "SCT", "Abdomen"),
    "ABDOMENPELVIS": Code("818982008", "SCT", "Abdomen and Pelvis"),
    "BRAIN": Code("12738006", "SCT", "Brain"),
    "BREAST": Code("76752008", "SCT", "Breast"),
    "CHEST": Code("816094009", "SCT", "Chest"),
    "CSPINE": Code("122494005", "SCT", "Cervical spine"),
    "HEAD": Code("69536005", "SCT", "Head"),
    "HEART": Code("80891009", "SCT", "Heart"),
    "HIP": Code("24136001", "SCT", "Hip joint"),
    "KIDNEY": Code("64033007", "SCT", "Kidney"),
    "KNEE": Code("72696002", "SCT", "Knee"),
    "LIVER": Code("10200004", "SCT", "Liver"),
    "LSPINE": Code("122496007", "SCT", "Lumbar spine"),
    "NECK": Code("45048000", "SCT", "Neck"),
    "PELVIS": Code("816092008", "SCT", "Pelvis"),
    "PROSTATE": Code("41216001", "SCT", "Prostate"),
    "SHOULDER": Code("16982005", "SCT", "Shoulder"),
    "SPINE": Code("421060004", "SCT", "Spine"),
    "TSPINE": Code("122495006", "SCT", "Thoracic spine"),
}


def region(header: Dataset) -> Code:
    """The region that a source says it shows."""
    return REGIONS.get(known_part(header), WHOLE_BODY)


def known_part(header: Dataset) -> str:
    """BodyPartExamined where it is one of `REGIONS`, else ''."""
    part = str(header.get("BodyPartExamined") or "").upper().replace(" ", "").replace("_", "")
    return part if part in REGIONS else ""


def laterality(header: Dataset) -> str:
    """FrameLaterality: 'R', 'L' or 'B' where the source says so, else 'U' (not a paired structure, or not said)."""
    side = str(header.get("ImageLaterality") or header.get("Laterality") or "").upper()
    return side if side in ("R", "L", "B") else "U"
