"""Scaling, narrowing and the NaN policy over more voxels than are worked on at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import InputError
from medseg.readers.options import ReadOptions
from medseg.readers.values import _BLOCK, checked, narrowed, scaled

SIZE = 2 * _BLOCK + 7
PLACES = [0, _BLOCK - 1, _BLOCK, SIZE - 1]


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8"])
@pytest.mark.parametrize(("slope", "inter"), [(1.0, -1024.0), (0.1, 3.7), (-2.0, 0.0)])
def test_scaled_is_worked_out_in_float64(dtype, slope, inter):
    array = np.random.default_rng(0).uniform(0, 200, SIZE).astype(dtype)
    expected = (array.astype(np.float64) * slope + inter).astype(np.float32)
    found = scaled(array, slope, inter, Path("x.nii"))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", [2.0**24 + 1, -(2.0**25) - 1, 1e39, -1e300])
def test_float64_stays_when_a_single_value_needs_it(place, value):
    array = np.full(SIZE, 0.1)
    array[place] = value
    found, decisions = narrowed(array)
    assert found is array
    assert decisions == ()


@given(
    values=st.lists(st.one_of(st.floats(-1e30, 1e30), st.integers(-(2**24), 2**24).map(float)), min_size=1),
    holes=st.lists(st.sampled_from([np.nan, np.inf, -np.inf])),
)
def test_narrowed_is_the_nearest_float32_or_nothing(values, holes):
    array = np.array([*values, *holes], np.float64)
    near = array.astype(np.float32)
    rounded_whole = (near != array) & (np.abs(array) > 2**24) & (array == np.rint(array))
    found, decisions = narrowed(array)
    if rounded_whole.any():
        assert found is array
    else:
        np.testing.assert_array_equal(found, near)
        assert [d.code for d in decisions] == ["MS-F203"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("order", ["C", "F"])
def test_one_voxel_that_is_no_number_is_found_anywhere(place, value, order):
    array = np.zeros((SIZE, 1, 2), np.float32, order=order)
    array[place, 0, 1] = value
    with pytest.raises(
        InputError, match=rf"1 of {2 * SIZE} voxels are NaN or infinite, the first at \({place}, 0, 1\)"
    ):
        checked(array, ReadOptions(), Path("x.nii"))
    filled, decisions = checked(array, ReadOptions(nonfinite="fill:-7"), Path("x.nii"))
    assert filled[place, 0, 1] == -7
    assert [d.code for d in decisions] == ["MS-F201"]
