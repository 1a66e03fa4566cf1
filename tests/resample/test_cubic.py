import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates, spline_filter1d

from medseg.resample.cubic import along, taps


@given(st.integers(1, 12), st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_taps_stay_inside_and_weigh_one(n, parts):
    index, weight = taps(np.array(parts) * (n - 1), n)
    assert index.min() >= 0
    assert index.max() <= n - 1
    np.testing.assert_allclose(weight.sum(axis=1), 1, atol=1e-6)


def test_taps_are_mirrored_about_the_outermost_centres():
    assert taps(np.array([0.0, 0.5]), 9)[0].tolist() == [[1, 0, 1, 2], [1, 0, 1, 2]]
    assert taps(np.array([7.5, 8.0]), 9)[0].tolist() == [[6, 7, 8, 7], [7, 8, 7, 6]]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("n", [1, 2, 3, 13, 14, 100])
def test_coefficients_equal_scipys(n, axis):
    shape = [5, 7, 67]  # 67: two full blocks of lines and a rest
    shape[axis] = n
    array = np.random.default_rng(0).random(shape).astype(np.float32)
    want = spline_filter1d(array.astype(np.float64), 3, axis, mode="mirror") if n > 1 else array
    np.testing.assert_allclose(along(array, axis, None, 1), want, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_samples_along_one_axis_equal_scipys(axis):
    array = np.random.default_rng(0).random((12, 13, 14)).astype(np.float32)
    x = np.linspace(0, array.shape[axis] - 1, 29)
    where = [np.arange(m, dtype=float) for m in array.shape]
    where[axis] = x
    grid = np.stack(np.meshgrid(*where, indexing="ij"))
    want = map_coordinates(array.astype(np.float64), grid, order=3, mode="mirror")
    np.testing.assert_allclose(along(array, axis, x, 2), want, atol=1e-5)
