"""Closed forms of nnU-Net's schemes."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.errors import InputError, UsageError
from medseg.transforms.nnunet.normalise import normalise

CT = {"scheme": "ct", "low": -100.0, "high": 200.0, "mean": 50.0, "std": 25.0}


@pytest.fixture
def image():
    return np.random.default_rng(0).normal(100, 30, (4, 5, 6))


def test_zscore_has_mean_0_and_deviation_1(image):
    out = normalise(image, {"scheme": "zscore"})
    assert out.dtype == np.float32
    assert abs(out.mean()) < 1e-5
    assert abs(out.std() - 1) < 1e-5


def test_zscore_of_the_nonzero_region_leaves_the_outside_as_it_is(image):
    inside = np.zeros(image.shape, bool)
    inside[1:3] = True
    out = normalise(image, {"scheme": "zscore", "nonzero": True}, inside)
    assert abs(out[inside].mean()) < 1e-5
    assert abs(out[inside].std() - 1) < 1e-5
    np.testing.assert_array_equal(out[~inside], image[~inside].astype(np.float32))


def test_a_constant_image_becomes_0():
    assert (normalise(np.full((2, 2, 2), 9), {"scheme": "zscore"}) == 0).all()


def test_ct_is_clipped_and_takes_the_training_cases_numbers():
    values = np.array([-1000, -100, 50, 200, 3000]).reshape(1, 1, 5)
    np.testing.assert_allclose(normalise(values, CT).ravel(), [-6, -6, 0, 6, 6])


def test_rescale01_and_colours_and_none():
    values = np.array([0, 51, 255]).reshape(1, 1, 3)
    np.testing.assert_allclose(normalise(values + 10, {"scheme": "rescale01"}).ravel(), [0, 0.2, 1], rtol=1e-6)
    np.testing.assert_allclose(normalise(values, {"scheme": "rgb01"}).ravel(), [0, 0.2, 1], rtol=1e-6)
    np.testing.assert_array_equal(normalise(values, {"scheme": "none"}).ravel(), [0, 51, 255])


def test_the_image_is_not_written_to(image):
    before = image.copy()
    for how in ({"scheme": "zscore"}, CT, {"scheme": "rescale01"}, {"scheme": "none"}):
        normalise(image, how)
    np.testing.assert_array_equal(image, before)


def test_values_that_are_no_colours_are_refused():
    with pytest.raises(InputError, match=r"values from -1 to 3, but the bundle takes colours") as caught:
        normalise(np.array([-1.0, 3.0]).reshape(1, 1, 2), {"scheme": "rgb01"})
    assert caught.value.code == "MS-F150"


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"scheme": "histogram"}, "is unknown"),
        ({"scheme": "ct", "low": 0, "high": 1}, "lacks mean, std"),
        ({"scheme": "zscore", "mean": 0}, "has mean"),
    ],
)
def test_what_is_not_understood(how, message):
    with pytest.raises(UsageError, match=message) as caught:
        normalise(np.zeros((1, 1, 1)), how)
    assert caught.value.code == "MS-U171"
