from __future__ import annotations

import pytest
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from medseg.writers.dicom.anatomy import REGIONS, WHOLE_BODY, laterality, region


def header(**tags):
    ds = Dataset()
    for name, value in tags.items():
        setattr(ds, name, value)
    return ds


def known():
    """Every SNOMED CT code that pydicom carries: value -> meanings."""
    found = {}
    for name in dir(codes.SCT):
        code = getattr(codes.SCT, name)
        if isinstance(code, Code):
            found.setdefault(code.value, set()).add(code.meaning)
    return found


def test_every_code_is_one_of_the_standard():
    sct = known()
    assert {c.value: c.meaning for c in (*REGIONS.values(), WHOLE_BODY) if c.meaning not in sct.get(c.value, ())} == {}


@pytest.mark.parametrize(
    ("part", "meaning"), [("HEAD", "Head"), ("c spine", "Cervical spine"), ("1", "Entire body"), (None, "Entire body")]
)
def test_region(part, meaning):
    assert region(header(BodyPartExamined=part)).meaning == meaning


@pytest.mark.parametrize(
    ("tags", "side"),
    [
        ({"Laterality": "R"}, "R"),
        ({"ImageLaterality": "L", "Laterality": "R"}, "L"),
        ({"Laterality": ""}, "U"),
        ({}, "U"),
    ],
)
def test_laterality(tags, side):
    assert laterality(header(**tags)) == side
