from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medseg.labels import LabelTable
from medseg.volume import Volume
from medseg.workflows.measure import EDGE, EMPTY, RANGE, UNKNOWN, Measurement, measure

TABLE = LabelTable.from_names(["liver", "lesion"])


def label_map(array, spacing=(1.0, 1.0, 1.0)):
    return Volume(np.asarray(array, np.uint8), np.diag([*spacing, 1.0]))


def test_worked_example():
    array = np.zeros((5, 5, 5), np.uint8)
    array[1:3, 1:3, 1:3] = 1  # 8 voxels inside
    array[4, 2, 2] = 2  # 1 voxel on the last face
    liver, lesion = measure(label_map(array, (2, 2, 5)), TABLE)
    assert liver == Measurement("liver", 1, 8, pytest.approx(8 * 20 / 1000), ())
    assert lesion == Measurement("lesion", 2, 1, pytest.approx(0.02), (EDGE,))


def test_an_empty_structure_is_said_to_be_empty():
    assert [m.flags for m in measure(label_map(np.zeros((3, 3, 3))), TABLE)] == [(EMPTY,), (EMPTY,)]


def test_a_value_outside_the_table_is_measured_and_flagged():
    array = np.zeros((5, 5, 5))
    array[2, 2, 2] = 9
    rows = measure(label_map(array), TABLE)
    assert rows[-1] == Measurement("label 9", 9, 1, pytest.approx(0.001), (UNKNOWN,))


def test_a_nested_region_holds_its_parts():
    table = LabelTable.from_json(
        [{"value": 1, "name": "whole", "region": [1, 2, 3]}, {"value": 3, "name": "core", "region": [3]}]
    )
    array = np.zeros((5, 5, 5))
    array[1, 1, 1], array[2, 2, 2], array[3, 3, 3] = 1, 2, 3
    assert [m.voxels for m in measure(label_map(array), table)] == [3, 1]


def test_volumes_unlike_the_training_data_are_flagged_when_present():
    array = np.zeros((5, 5, 5))
    array[2, 2, 2] = 1
    ranges = {"liver": (0.5, 2.0), "lesion": (0.5, 2.0)}
    assert [m.flags for m in measure(label_map(array), TABLE, range_ml=ranges)] == [(RANGE,), (EMPTY,)]
    assert measure(label_map(array, (10, 10, 10)), TABLE, range_ml=ranges)[0].flags == ()


@given(arrays(st.sampled_from([np.uint8, np.uint16, np.int32]), (4, 3, 5), elements=st.integers(0, 3)))
def test_counts_and_edges_agree_with_brute_force(array):
    rows = {m.value: m for m in measure(Volume(array, np.diag([1.0, 2.0, 3.0, 1.0])), TABLE)}
    for value in (1, 2, 3):
        where = np.argwhere(array == value)
        if value == 3 and not len(where):
            assert value not in rows
            continue
        edge = any(x in (0, n - 1) for p in where for x, n in zip(p, array.shape, strict=True))
        assert rows[value].voxels == len(where)
        assert rows[value].volume_ml == pytest.approx(len(where) * 6 / 1000)
        assert (EDGE in rows[value].flags) == edge


def test_a_row_reads_back():
    m = Measurement("liver", 1, 8, 0.16, (EDGE, UNKNOWN))
    assert Measurement.from_row(m.row(outside_domain="yes")) == m
    assert m.row(outside_domain="yes")["outside_domain"] == "yes"
