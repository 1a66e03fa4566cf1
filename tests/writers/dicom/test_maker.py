from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import UID

from medseg.writers.dicom.maker import Maker, content_uid, new_uid, text, time_of, tracking_uid
from medseg.writers.dicom.sources import Instance, Sources

MAKER = Maker("bundle", "1.0")


def sources(**tags):
    header = Dataset()
    for name, value in tags.items():
        setattr(header, name, value)
    return Sources((Instance("1.2", "1.2.3", "1.2.4"),), (), header)


@given(st.lists(st.text() | st.integers() | st.floats(), min_size=1))
def test_uids_are_valid_and_follow_from_their_parts(parts):
    uid = new_uid(*parts)
    assert UID(uid).is_valid
    assert uid.startswith("2.25.")
    assert uid == new_uid(*parts)
    assert uid != new_uid(*parts, "")


def test_parts_do_not_run_into_each_other():
    assert new_uid("ab", "c") != new_uid("a", "bc")
    array = np.arange(6, dtype=np.uint8)
    assert new_uid(array) == new_uid(array.copy())
    assert new_uid(array.reshape(2, 3)) == new_uid(np.asfortranarray(array.reshape(2, 3)))
    others = [array.reshape(2, 3), array.reshape(3, 2), array.astype(np.int8), array[::-1]]
    assert len({new_uid(a) for a in (array, *others)}) == 5


def test_what_an_object_says_is_in_its_uid():
    base = content_uid("seg", sources(), MAKER, "x")
    others = [
        content_uid("map", sources(), MAKER, "x"),
        content_uid("seg", sources(), MAKER, "y"),
        content_uid("seg", sources(SeriesDate="20200101"), MAKER, "x"),
        content_uid("seg", replace(sources(), instances=(Instance("1.2", "1.2.9", "1.2.4"),)), MAKER, "x"),
        *(
            content_uid("seg", sources(), replace(MAKER, **change), "x")
            for change in ({"bundle": "b"}, {"version": "2"}, {"warning": "w"}, {"when": datetime(2020, 1, 2)})
        ),
    ]
    assert len({base, *others}) == 1 + len(others)


def test_tracking_is_the_same_for_every_version_and_differs_by_structure():
    uid = tracking_uid("liver", sources(), MAKER)
    assert uid == tracking_uid("liver", sources(), replace(MAKER, version="2", warning="w"))
    assert uid != tracking_uid("spleen", sources(), MAKER)


@pytest.mark.parametrize(
    ("tags", "when"),
    [
        ({"SeriesDate": "20200102", "SeriesTime": "030405.678"}, datetime(2020, 1, 2, 3, 4, 5)),
        ({"SeriesDate": "20200102"}, datetime(2020, 1, 2)),
        ({"SeriesDate": "", "StudyDate": "20190102", "StudyTime": "1011"}, datetime(2019, 1, 2, 10, 11)),
        ({"SeriesDate": "2020-01-02", "AcquisitionDate": "20210102"}, datetime(2021, 1, 2)),
        ({}, datetime(1900, 1, 1)),
    ],
)
def test_the_time_is_that_of_the_source(tags, when):
    header = Dataset()
    for name, value in tags.items():
        header.add_new(name, name[-4:].replace("Date", "DA").replace("Time", "TM"), value)
        header[name]._value = value
    assert time_of(replace(sources(), header=header), MAKER) == when
    assert time_of(sources(), replace(MAKER, when=datetime(2001, 1, 1))) == datetime(2001, 1, 1)


@given(st.text())
def test_texts_fit_a_long_string(words):
    out = text(words)
    assert len(out) <= 64
    assert "\\" not in out
    assert out.isprintable()
