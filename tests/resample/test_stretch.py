"""Oracle: skimage's resize, which nnU-Net calls."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import resize

from medseg.resample.stretch import nearest, stretch

SHAPES = st.tuples(*[st.integers(1, 9)] * 3)


@settings(max_examples=40, deadline=None)
@given(SHAPES, SHAPES, st.sampled_from([0, 1, 3]), st.integers(0, 99))
def test_it_equals_skimage(shape, wanted, order, seed):
    image = np.random.default_rng(seed).normal(size=shape)
    want = resize(image, wanted, order, mode="edge", anti_aliasing=False, clip=False, preserve_range=True)
    got = stretch(image, wanted, order, 1)
    assert got.shape == wanted
    if order:
        np.testing.assert_allclose(got, want, atol=2e-5)
    else:  # two voxels can be equally near, and rounding decides
        assert (np.abs(got - want) < 1e-6).mean() > 0.7


def test_a_line_between_its_voxels_by_hand():
    line = np.array([0.0, 10.0]).reshape(1, 1, 2)
    np.testing.assert_allclose(stretch(line, (1, 1, 4), 1, 1).ravel(), [0, 2.5, 7.5, 10])
    np.testing.assert_allclose(stretch(line, (1, 1, 4), 0, 1).ravel(), [0, 0, 10, 10])


def test_constants_stay_and_axes_that_keep_their_voxels_are_untouched():
    image = np.full((3, 4, 5), 7.5, np.float32)
    np.testing.assert_allclose(stretch(image, (5, 9, 2)), 7.5, rtol=1e-6)
    same = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    assert stretch(same, (3, 4, 5)) is same


def test_the_upper_of_two_equally_near_voxels():
    assert nearest(4, 2).tolist() == [1, 3]
    assert nearest(2, 4).tolist() == [0, 0, 1, 1]
    assert nearest(3, 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("shape", "order", "message"),
    [((2, 2, 2), 2, "order is one of 0, 1, 3, got 2"), ((2, 2), 1, "three positive"), ((2, 0, 2), 1, "three positive")],
)
def test_what_is_refused(shape, order, message):
    with pytest.raises(ValueError, match=message):
        stretch(np.zeros((3, 3, 3)), shape, order)
