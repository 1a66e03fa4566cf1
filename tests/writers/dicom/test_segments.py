from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medseg.labels import LabelTable
from medseg.volume import Volume
from medseg.writers.dicom.segments import member, pixels, segments_of, values_in

NESTED = [{"value": 1, "name": "whole", "region": [1, 2, 3]}, {"value": 2, "name": "core", "region": [3]}]


@given(arrays(st.sampled_from([np.uint8, np.uint16, np.int16, np.int64]), (2, 3, 4), elements=st.integers(0, 100)))
def test_the_values_that_occur(array):
    assert values_in(array) == [int(v) for v in np.unique(array) if v]


@given(arrays(np.uint16, (2, 3, 4), elements=st.integers(0, 400)), st.sampled_from(["binary", "labelmap"]))
def test_pixels_hold_the_number_of_the_segment_of_each_voxel(array, kind):
    table = LabelTable.from_json([{"value": 3, "name": "a"}, {"value": 300, "name": "b"}])
    segments = segments_of(Volume(array, np.eye(4), labels=table), kind)
    made = pixels(array, segments)
    for segment in segments:
        np.testing.assert_array_equal(made == segment.number, array == segment.label.value)
    assert ((made == 0) == (array == 0)).all()
    numbers = [s.number for s in segments]
    assert numbers == (list(range(1, len(segments) + 1)) if kind == "binary" else sorted({3, 300, *values_in(array)}))


def test_nested_segments_have_an_axis_of_their_own():
    array = np.array([[[0, 1], [2, 3]]], np.uint8)
    segments = segments_of(Volume(array, np.eye(4), labels=LabelTable.from_json(NESTED)))
    assert [(s.number, s.values) for s in segments] == [(1, (1, 2, 3)), (2, (3,))]
    made = pixels(array, segments)
    np.testing.assert_array_equal(made[..., 0], [[[0, 1], [1, 1]]])
    np.testing.assert_array_equal(made[..., 1], [[[0, 0], [0, 1]]])
    np.testing.assert_array_equal(member(array, segments[0]), array > 0)


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 2, 2)), np.zeros((1, 2, 2, 2), np.uint8), np.full((2, 2, 2), -1), np.full((2, 2, 2), 2**16)],
)
def test_what_is_no_label_map_is_a_mistake_of_the_caller(array):
    with pytest.raises(ValueError, match="a label map is"):
        segments_of(Volume(array, np.eye(4)))


def test_a_kind_that_is_none():
    with pytest.raises(ValueError, match="one of"):
        segments_of(Volume(np.ones((2, 2, 2), np.uint8), np.eye(4)), "fractional")
