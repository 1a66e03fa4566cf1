"""Where a viewer opens, against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.labels import LabelTable
from medseg.reports.uncertain_place import NEIGHBOURHOOD_MM, largest_structure, most_uncertain, place_mm
from medseg.volume import Volume
from tests.reports import phantom


def box_means(array: np.ndarray, spacing) -> np.ndarray:
    """The mean of the box around every voxel, zero outside, by looking at each."""
    half = [max(3, 2 * round(NEIGHBOURHOOD_MM / mm / 2) + 1) // 2 for mm in spacing]
    padded = np.pad(array.astype(float), [(h, h) for h in half])
    out = np.empty(array.shape)
    for index in np.ndindex(*array.shape):
        out[index] = padded[tuple(slice(i, i + 2 * h + 1) for i, h in zip(index, half, strict=True))].mean()
    return out


@given(st.integers(0, 2**31))
def test_the_box_of_highest_mean(seed):
    rng = np.random.default_rng(seed)
    array = rng.random(rng.integers(1, 9, 3)).astype(np.float32) ** 4
    spacing = tuple(rng.uniform(0.5, 6, 3))
    means = box_means(array, spacing)
    for order in "CF":
        assert means[most_uncertain(np.asarray(array, order=order), spacing)] >= means.max() * (1 - 2e-4)


def test_a_stray_voxel_loses_against_a_neighbourhood():
    array = phantom.entropy()
    assert array[phantom.STRAY] == array.max() == 1
    assert most_uncertain(array, phantom.SPACING) == phantom.UNCERTAIN
    array[phantom.UNCERTAIN] = 0.9
    assert np.unravel_index(array.argmax(), array.shape) == phantom.STRAY
    assert most_uncertain(array, phantom.SPACING) == phantom.UNCERTAIN


def test_the_middle_of_a_saturated_region():
    array = np.zeros((40, 40, 40), np.float32)
    array[5:30, 8:31, 10:35] = 1
    assert most_uncertain(array, (1, 1, 1)) == (17, 19, 22)


def test_of_two_equal_places_one_is_taken_and_not_the_middle_between():
    array = np.zeros((41, 9, 9), np.float32)
    array[3, 4, 4] = array[37, 4, 4] = 1
    i, j, k = most_uncertain(array, (5.0, 5.0, 5.0))
    assert min(abs(i - 3), abs(i - 37)) <= 1
    assert max(abs(j - 4), abs(k - 4)) <= 1


def test_no_uncertainty_no_place():
    assert most_uncertain(np.zeros((5, 6, 7), np.float32), (1, 1, 1)) is None


def test_float32_keeps_zero_zero_beside_ones():
    array = np.zeros((200, 3, 3), np.float32)
    array[50] = 1
    assert abs(most_uncertain(array, (1, 1, 1))[0] - 50) <= 2


def test_the_largest_structure_counts_nested_ones_as_a_whole():
    array = np.zeros((10, 10, 10), np.uint8)
    array[1:4, 1:4, 1:4] = 1
    array[2, 2, 1:3] = 2
    array[6:9, 6:9, 6:9] = 3
    array[6, 6, 6] = 0
    plain = LabelTable.from_names("abc")
    assert largest_structure(array, plain) == largest_structure(array, None) == (7, 7, 7)
    nested = LabelTable.from_json([{"value": 1, "name": "a", "region": [1, 2]}, *plain.to_json()[1:]])
    assert largest_structure(array, nested) == (2, 2, 2)


@given(st.integers(0, 2**31))
def test_the_place_in_the_largest_structure_lies_inside_it(seed):
    rng = np.random.default_rng(seed)
    array = rng.integers(0, 4, rng.integers(1, 7, 3))
    found = largest_structure(array, None)
    if not array.any():
        assert found is None
    else:
        counts = np.bincount(array.ravel())[1:]
        assert counts[array[found] - 1] == counts.max()


def test_a_value_outside_the_table_counts_too():
    array = np.zeros((4, 4, 4), np.uint16)
    array[3, 3, 3] = 500
    assert largest_structure(array, LabelTable.from_names("ab")) == (3, 3, 3)


@pytest.mark.parametrize("what", ["map", "structure", "middle"])
def test_place_in_mm(what):
    affine = phantom.oblique()
    labels = phantom.labels() if what != "middle" else np.zeros(phantom.SHAPE, np.uint8)
    given_map = phantom.entropy() if what == "map" else np.zeros(phantom.SHAPE, np.float32)
    found = place_mm(Volume(labels, affine, labels=phantom.TABLE), given_map)
    index = np.linalg.inv(affine) @ [*found, 1]
    expected = {"map": phantom.UNCERTAIN, "structure": (21, 11, 11), "middle": (18, 15, 10)}[what]
    np.testing.assert_allclose(index[:3], expected, atol=1e-9 if what != "structure" else 1)
    if what != "map":
        assert place_mm(Volume(labels, affine, labels=phantom.TABLE)) == found
