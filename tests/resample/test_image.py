import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from medseg.geometry import Grid, reorientation
from medseg.resample import resample_image
from tests.resample.cases import OBLIQUE, SOURCE, TURNED, grids, source_index, turns

ORDERS = {"linear": 1, "cubic": 3}


def noise(shape, dtype=np.float32, seed=0):
    return (np.random.default_rng(seed).random(shape) * 200).astype(dtype)


def by_scipy(array, source, target, order, fill):
    x, inside = source_index(source, target)
    return np.where(inside, map_coordinates(array.astype(np.float64), x, order=ORDERS[order], mode="mirror"), fill)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("target", [TURNED, OBLIQUE], ids=["aligned", "oblique"])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray], ids=["C", "F"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_equals_scipy(order, target, layout, dtype):
    array = layout(noise(SOURCE.shape, dtype))
    got = resample_image(array, SOURCE, target, fill=-7, order=order)
    want = by_scipy(array, SOURCE, target, order, -7)
    assert 0.2 < (want != -7).mean() < 0.8
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, atol=2e-4)


@pytest.mark.parametrize("dtype", [np.bool_, np.float16, ">i2", np.uint16, np.int64])
def test_other_dtypes_give_what_float64_gives(dtype):
    array = noise(SOURCE.shape).astype(dtype)
    want = resample_image(array.astype(np.float64), SOURCE, TURNED)
    np.testing.assert_allclose(resample_image(array, SOURCE, TURNED), want, atol=2e-4)


@given(grids(), grids(), st.integers(0, 9))
def test_equals_scipy_on_any_pair_of_grids(source, target, seed):
    array = noise(source.shape, seed=seed)
    got = resample_image(array, source, target, fill=-7)
    np.testing.assert_allclose(got, by_scipy(array, source, target, "linear", -7), atol=2e-4)


@given(grids(6), grids(6), st.integers(0, 9))
def test_cubic_equals_scipy_on_any_pair_of_grids(source, target, seed):
    array = noise(source.shape, seed=seed)
    got = resample_image(array, source, target, fill=-7, order="cubic")
    np.testing.assert_allclose(got, by_scipy(array, source, target, "cubic", -7), atol=2e-3)


@pytest.mark.parametrize("target", [TURNED, OBLIQUE], ids=["aligned", "oblique"])
def test_linear_ramps_come_out_as_they_are(target):
    slope_per_mm = np.array([3.0, -2.0, 0.5])
    ramp = SOURCE.to_world(np.moveaxis(np.indices(SOURCE.shape), 0, -1)) @ slope_per_mm
    x, inside = source_index(SOURCE, target)
    want = SOURCE.to_world(np.moveaxis(x, 0, -1)) @ slope_per_mm
    got = resample_image(ramp, SOURCE, target)
    np.testing.assert_allclose(got[inside], want[inside], atol=1e-4)


def test_cubic_reproduces_a_cosine_that_fits_the_mirrored_ends():
    source, target = Grid((65, 1, 1), np.eye(4)), Grid((129, 1, 1), np.diag([0.5, 1, 1, 1]))
    wave = np.cos(np.pi * np.arange(65) / 8)[:, None, None]
    want = np.cos(np.pi * np.arange(129) / 16)
    got = resample_image(wave, source, target, order="cubic")[:, 0, 0]
    assert np.abs(got - want).max() < 2e-3 < np.abs(resample_image(wave, source, target)[:, 0, 0] - want).max()


@pytest.mark.parametrize("order", ORDERS)
@given(grids(), turns(), st.integers(0, 9))
def test_turning_and_turning_back_is_exact(order, grid, axcodes, seed):
    turn = reorientation(grid, axcodes)
    turned = turn.apply_grid(grid)
    array = noise(grid.shape, seed=seed)
    there = resample_image(array, grid, turned, order=order)
    np.testing.assert_array_equal(there, turn.apply(array))
    np.testing.assert_array_equal(resample_image(there, turned, grid, order=order), array)


@given(grids(), turns(), grids())
def test_the_direction_of_the_axes_does_not_matter(grid, axcodes, target):
    turn = reorientation(grid, axcodes)
    array = noise(grid.shape)
    direct = resample_image(array, grid, target)
    turned = resample_image(turn.apply(array), turn.apply_grid(grid), target)
    np.testing.assert_allclose(direct, turned, atol=1e-4)


@given(grids(), st.tuples(*[st.integers(-3, 12)] * 3), st.tuples(*[st.integers(1, 9)] * 3))
def test_cropping_and_padding_copies_voxels(grid, start, size):
    array = noise(grid.shape)
    stop = tuple(a + n for a, n in zip(start, size, strict=True))
    got = resample_image(array, grid, grid.crop(start, stop), fill=-7)
    padded = np.pad(array, 25, constant_values=-7)
    np.testing.assert_array_equal(got, padded[tuple(slice(25 + a, 25 + b) for a, b in zip(start, stop, strict=True))])


def test_refining_twice_equals_refining_once_where_the_lattices_nest():
    coarse = Grid((9, 8, 7), np.diag([4.0, 4, 4, 1]))
    half, quarter = (Grid(tuple((n - 1) * f + 1 for n in coarse.shape), np.diag([4 / f] * 3 + [1])) for f in (2, 4))
    array = noise(coarse.shape)
    twice = resample_image(resample_image(array, coarse, half), half, quarter)
    np.testing.assert_allclose(twice, resample_image(array, coarse, quarter), atol=1e-4)


def test_outside_is_filled_and_the_outer_half_voxel_is_clamped():
    source = Grid((4, 1, 1), np.eye(4))
    target = Grid((9, 1, 1), np.array([[0.5, 0, 0, -0.75], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    got = resample_image(np.array([0.0, 10, 20, 30])[:, None, None], source, target, fill=-1)[:, 0, 0]
    np.testing.assert_allclose(got, [-1, 0, 2.5, 7.5, 12.5, 17.5, 22.5, 27.5, 30])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("where_mm", [1000.0, -1000.0])
def test_a_grid_far_away_is_all_fill(order, where_mm):
    far = TURNED.affine.copy()
    far[0, 3] = where_mm
    got = resample_image(noise(SOURCE.shape), SOURCE, Grid(TURNED.shape, far), fill=5, order=order)
    assert (got == 5).all()


def test_channels_are_resampled_one_by_one():
    array = noise((3, *SOURCE.shape))
    got = resample_image(array, SOURCE, TURNED, order="cubic")
    assert got.shape == (3, *TURNED.shape)
    np.testing.assert_array_equal(got[2], resample_image(array[2], SOURCE, TURNED, order="cubic"))


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("target", [TURNED, OBLIQUE], ids=["aligned", "oblique"])
def test_threads_change_nothing(threads, target):
    array = noise(SOURCE.shape)
    for order in ORDERS:
        want = resample_image(array, SOURCE, target, order=order, threads=3)
        np.testing.assert_array_equal(resample_image(array, SOURCE, target, order=order, threads=threads), want)


def test_the_input_is_left_alone():
    array = noise(SOURCE.shape)
    array.setflags(write=False)
    before = array.copy()
    for target in (SOURCE, TURNED, OBLIQUE):
        for order in ORDERS:
            assert not np.shares_memory(resample_image(array, SOURCE, target, order=order), array)
    np.testing.assert_array_equal(array, before)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="order is 'linear' or 'cubic', got 'nearest'"):
        resample_image(noise(SOURCE.shape), SOURCE, TURNED, order="nearest")
    for target in (TURNED, OBLIQUE):
        with pytest.raises(ValueError, match=r"the array has shape \(2, 2, 2\), its grid \(20, 22, 9\)"):
            resample_image(noise((2, 2, 2)), SOURCE, target)


@pytest.mark.slow
def test_agrees_with_monai_spacing_in_the_interior():
    torch = pytest.importorskip("torch")
    from monai.data import MetaTensor
    from monai.transforms import Spacing

    array = noise((40, 30, 20))
    source = Grid(array.shape, np.diag([0.8, 0.9, 2.0, 1]))
    theirs = Spacing(pixdim=(1.5, 1.2, 1.1))(
        MetaTensor(torch.from_numpy(array)[None], affine=torch.tensor(source.affine))
    )
    ours = resample_image(array, source, Grid(theirs.shape[1:], theirs.affine.numpy()))
    np.testing.assert_allclose(ours[1:-1, 1:-1, 1:-1], theirs[0, 1:-1, 1:-1, 1:-1].numpy(), atol=2e-3)
