"""Concepts that no public code names, in medseg's own scheme: what uncertainty maps and measurements hold."""

from __future__ import annotations

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import CodedConcept

SCHEME = "99MEDSEG"


def _own(value: str, meaning: str) -> CodedConcept:
    return CodedConcept(value=value, scheme_designator=SCHEME, meaning=meaning)


#: Name of an uncertainty map or column of measurements.csv -> concept.
CONCEPTS = {
    "entropy": _own("entropy", "Predictive entropy"),
    "mutual_information": _own("mutual_info", "Mutual information"),
    "voxels": _own("voxels", "Number of voxels"),
    "entropy_inside": _own("entropy_inside", "Mean predictive entropy inside"),
    "entropy_boundary": _own("entropy_boundary", "Mean predictive entropy at the boundary"),
    "agreement": _own("agreement", "Dice agreement between samples"),
    "predicted_dice": _own("predicted_dice", "Predicted Dice coefficient"),
}


def schemes() -> list[CodingSchemeIdentificationItem]:
    """What an object that uses these concepts says of their scheme."""
    return [CodingSchemeIdentificationItem(designator=SCHEME, name="medseg", responsible_organization="medseg")]
