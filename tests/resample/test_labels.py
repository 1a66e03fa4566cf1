import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.geometry import Grid, reorientation
from medseg.resample import resample_labels
from tests.resample.cases import OBLIQUE, SOURCE, TURNED, corners, grids, source_index, turns


def blobs(shape, values=(0, 1, 2, 7), dtype=np.uint8, seed=0):
    """Random voxels: every corner of a cell may bear another label."""
    return np.random.default_rng(seed).choice(np.array(values, dtype), shape)


def by_one_hot(labels, source, target):
    """One channel a label, each interpolated; the greatest wins, of equal ones the lowest label."""
    values = np.unique(labels)
    channels = np.zeros((len(values), *target.shape))
    for index, weight in corners(source, target):
        for channel, value in zip(channels, values, strict=True):
            channel += weight * (labels[tuple(index)] == value)
    first = (channels >= channels.max(axis=0) - 1e-6).argmax(axis=0)
    return np.where(source_index(source, target)[1], values[first], 0)


@pytest.mark.parametrize("target", [TURNED, OBLIQUE], ids=["aligned", "oblique"])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray], ids=["C", "F"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_equals_one_hot_interpolation_and_argmax(target, layout, dtype):
    labels = layout(blobs(SOURCE.shape, dtype=dtype))
    got = resample_labels(labels, SOURCE, target)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, by_one_hot(labels, SOURCE, target))


@given(grids(), grids(), st.integers(0, 99))
def test_equals_one_hot_on_any_pair_of_grids(source, target, seed):
    labels = blobs(source.shape, seed=seed)
    np.testing.assert_array_equal(resample_labels(labels, source, target), by_one_hot(labels, source, target))


def test_a_structure_inside_another_keeps_its_place():
    source = Grid((40, 40, 40), np.eye(4))
    r = np.linalg.norm(np.indices(source.shape) - 19.5, axis=0)
    labels = np.select([r < 8, r < 15], [2, 1], 0).astype(np.uint8)
    target = Grid((80, 80, 80), np.array([[0.5, 0, 0, -0.25], [0, 0.5, 0, -0.25], [0, 0, 0.5, -0.25], [0, 0, 0, 1]]))
    got = resample_labels(labels, source, target)
    np.testing.assert_array_equal(got, by_one_hot(labels, source, target))
    for value in (1, 2):
        assert (got == value).sum() / 8 == pytest.approx((labels == value).sum(), rel=0.01)


@pytest.mark.parametrize("value", [2**62 + 1, -(2**62) - 1, 2**24 + 1])
def test_large_values_are_kept_exactly(value):
    labels = np.zeros(SOURCE.shape, np.int64)
    labels[5:15, 5:15, 2:7] = value
    for target in (TURNED, OBLIQUE):
        assert np.unique(resample_labels(labels, SOURCE, target)).tolist() == sorted([0, value])


def test_ties_go_to_the_lowest_label_whichever_way_the_axis_runs():
    source = Grid((2, 1, 1), np.eye(4))
    middle = Grid((1, 1, 1), np.array([[1, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    for pair in ([3, 8], [8, 3]):
        assert resample_labels(np.array(pair, np.uint8)[:, None, None], source, middle).item() == 3


@given(grids(), turns(), grids(), st.integers(0, 99))
def test_the_direction_of_the_axes_does_not_matter(grid, axcodes, target, seed):
    turn = reorientation(grid, axcodes)
    labels = blobs(grid.shape, seed=seed)
    direct = resample_labels(labels, grid, target)
    np.testing.assert_array_equal(resample_labels(turn.apply(labels), turn.apply_grid(grid), target), direct)


@given(grids(), turns(), st.integers(0, 99))
def test_turning_and_turning_back_is_exact(grid, axcodes, seed):
    turn = reorientation(grid, axcodes)
    labels = blobs(grid.shape, (-5, 0, 2**40), np.int64, seed)
    there = resample_labels(labels, grid, turn.apply_grid(grid))
    np.testing.assert_array_equal(there, turn.apply(labels))
    np.testing.assert_array_equal(resample_labels(there, turn.apply_grid(grid), grid), labels)


@given(grids(), grids(), st.integers(0, 99))
def test_no_label_appears_that_was_not_there(source, target, seed):
    labels = blobs(source.shape, (3, 5), seed=seed)
    got = resample_labels(labels, source, target)
    _, inside = source_index(source, target)
    assert set(np.unique(got[inside])) <= {3, 5}
    assert (got[~inside] == 0).all()


@pytest.mark.parametrize("dtype", [np.bool_, ">i4", np.uint64])
def test_the_dtype_stays(dtype):
    labels = blobs(SOURCE.shape, (0, 1)).astype(dtype)
    for target in (SOURCE, TURNED, OBLIQUE):
        got = resample_labels(labels, SOURCE, target)
        assert got.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(got, resample_labels(labels.astype(np.uint8), SOURCE, target))


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_threads_change_nothing(threads):
    labels = blobs(SOURCE.shape)
    for target in (TURNED, OBLIQUE):
        want = resample_labels(labels, SOURCE, target, threads=3)
        np.testing.assert_array_equal(resample_labels(labels, SOURCE, target, threads=threads), want)


def test_wrong_arguments_are_named():
    with pytest.raises(TypeError, match="labels are integers, got float32"):
        resample_labels(np.zeros(SOURCE.shape, np.float32), SOURCE, TURNED)
    with pytest.raises(ValueError, match=r"the array has shape \(1, 20, 22, 9\), its grid"):
        resample_labels(np.zeros((1, *SOURCE.shape), np.uint8), SOURCE, TURNED)
