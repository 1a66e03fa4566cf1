import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from medseg.geometry import Grid, reorientation
from medseg.resample import labels_from_logits
from tests.resample.cases import OBLIQUE, SOURCE, TURNED, grids, source_index, turns


def noise(channels, shape, seed=0):
    return np.random.default_rng(seed).standard_normal((channels, *shape)).astype(np.float32)


def at_full_resolution(logits, source, target):
    x, inside = source_index(source, target)
    return np.stack([map_coordinates(c.astype(np.float64), x, order=1, mode="nearest") for c in logits]), inside


def assert_best(got, logits, source, target):
    """The label found has the greatest logit, to float32's rounding, and is 0 outside."""
    full, inside = at_full_resolution(logits, source, target)
    chosen = np.take_along_axis(full, got[None].astype(int), axis=0)[0]
    assert (full.max(axis=0) - chosen)[inside].max(initial=0) < 1e-5
    assert (got[~inside] == 0).all()
    near_ties = np.diff(np.sort(full, axis=0)[-2:], axis=0)[0] < 1e-5 if len(full) > 1 else np.zeros(got.shape, bool)
    np.testing.assert_array_equal(got[inside & ~near_ties], full.argmax(axis=0)[inside & ~near_ties])


@pytest.mark.parametrize("target", [TURNED, OBLIQUE], ids=["aligned", "oblique"])
@pytest.mark.parametrize("channels", [1, 2, 21])
def test_equals_interpolation_then_argmax(target, channels):
    logits = noise(channels, SOURCE.shape)
    got = labels_from_logits(logits, SOURCE, target)
    assert got.dtype == np.uint8
    assert_best(got, logits, SOURCE, target)


@given(grids(), grids(), st.integers(0, 99))
def test_equals_interpolation_then_argmax_on_any_pair_of_grids(source, target, seed):
    logits = noise(4, source.shape, seed)
    assert_best(labels_from_logits(logits, source, target), logits, source, target)


def test_equals_torch_interpolate_then_argmax():
    torch = pytest.importorskip("torch")
    logits = noise(5, (12, 10, 8))
    shape = (20, 25, 8)
    source = Grid((12, 10, 8), np.eye(4))
    affine = np.diag([12 / 20, 10 / 25, 1, 1.0])
    affine[:3, 3] = (np.diag(affine)[:3] - 1) / 2  # one field of view: interpolate's align_corners=False
    full = torch.nn.functional.interpolate(torch.from_numpy(logits)[None], shape, mode="trilinear")[0]
    got = labels_from_logits(logits, source, Grid(shape, affine))
    assert (got == full.argmax(0).numpy()).mean() > 0.9999


@pytest.mark.parametrize("target", [TURNED, OBLIQUE, SOURCE], ids=["aligned", "oblique", "same"])
def test_regions_are_painted_in_order(target):
    logits = noise(3, SOURCE.shape)
    full, inside = at_full_resolution(logits, SOURCE, target)
    want = np.zeros(target.shape, np.uint8)
    for value, channel in zip((4, 2, 9), full, strict=True):
        want[channel > 0] = value
    want[~inside] = 0
    got = labels_from_logits(logits, SOURCE, target, regions=(4, 2, 9))
    sure = (np.abs(full) > 1e-5).all(axis=0)
    np.testing.assert_array_equal(got[sure], want[sure])
    assert set(np.unique(want)) == {0, 2, 4, 9}


@given(grids(), turns(), st.integers(0, 99))
def test_on_the_own_lattice_it_is_argmax(grid, axcodes, seed):
    turn = reorientation(grid, axcodes)
    logits = noise(3, grid.shape, seed)
    got = labels_from_logits(logits, grid, turn.apply_grid(grid))
    np.testing.assert_array_equal(got, turn.apply(logits.argmax(axis=0)))


def test_equal_logits_give_the_lower_class():
    assert (labels_from_logits(np.zeros((3, *SOURCE.shape), np.float32), SOURCE, SOURCE) == 0).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize(
    "layout", [np.ascontiguousarray, np.asfortranarray, lambda a: np.moveaxis(np.moveaxis(a, 0, -1).copy(), -1, 0)]
)
def test_precision_and_memory_order_do_not_matter(dtype, layout):
    logits = noise(3, SOURCE.shape).astype(np.float16)
    want = labels_from_logits(logits.astype(np.float32), SOURCE, TURNED)
    np.testing.assert_array_equal(labels_from_logits(layout(logits.astype(dtype)), SOURCE, TURNED), want)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"logits are \(C, I, J, K\) on a grid of \(20, 22, 9\), got \(20, 22, 9\)"):
        labels_from_logits(np.zeros(SOURCE.shape, np.float32), SOURCE, TURNED)
    with pytest.raises(ValueError, match="2 channels need as many label values"):
        labels_from_logits(noise(2, SOURCE.shape), SOURCE, TURNED, regions=(1,))
    with pytest.raises(ValueError, match="2 channels need as many label values"):
        labels_from_logits(noise(2, SOURCE.shape), SOURCE, TURNED, regions=(1, 256))
