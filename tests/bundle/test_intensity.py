"""The unit-free description of grey values: closed forms, and what must not change it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.bundle import intensity
from medseg.bundle.intensity import FORM, MEANING, describe


def noise(shape=(24, 26, 22), seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_uniform_noise_in_closed_form():
    found = describe(np.random.default_rng(0).uniform(1, 2, (40, 40, 40)))
    for name, quantile in {"u05": 0.05, "u25": 0.25, "u50": 0.5, "u75": 0.75, "u95": 0.95}.items():
        assert found[name] == pytest.approx((quantile - 0.01) / 0.98, abs=0.01)
    assert found["log_iqr"] == pytest.approx(np.log(0.5 / 0.98), abs=0.02)
    assert found["corr1"] == pytest.approx(0, abs=0.02)
    # |difference of two independent uniforms| has median 1 - sqrt(1/2)
    assert np.exp(found["log_step"]) == pytest.approx((1 - np.sqrt(0.5)) / 0.98, abs=0.01)


def test_a_ramp_is_perfectly_correlated_and_has_no_texture():
    i, j, k = np.meshgrid(*(np.arange(20.0),) * 3, indexing="ij")
    found = describe(i + j + k + 1)
    assert found["corr1"] == pytest.approx(1, abs=0.01)
    assert found["log_bend"] < -4


def test_correlation_against_numpy():
    image = noise().cumsum(0)
    low, high = np.quantile(image, [0.01, 0.99])
    clipped = np.clip(image, low, high)
    pairs = [(clipped[4:], clipped[:-4]), (clipped[:, 4:], clipped[:, :-4]), (clipped[:, :, 4:], clipped[:, :, :-4])]
    expected = np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs])
    assert describe(image)["corr4"] == pytest.approx(expected, abs=1e-9)


@settings(max_examples=15)
@given(st.floats(1e-3, 1e5), st.permutations([0, 1, 2]), st.lists(st.booleans(), min_size=3, max_size=3))
def test_scale_axis_order_and_flips_change_nothing(scale, order, flips):
    image = np.abs(noise().cumsum(1)) + 1
    moved = image.transpose(order)[tuple(slice(None, None, -1 if f else 1) for f in flips)] * scale
    assert describe(moved) == pytest.approx(describe(image), rel=1e-6, abs=1e-6)


def test_an_offset_changes_the_floor_alone():
    image = np.abs(noise()) + 5
    plain, moved = describe(image), describe(image - 50)
    assert plain["floor"] == 0
    assert moved["floor"] < -0.9
    assert {k: plain[k] for k in FORM} == pytest.approx({k: moved[k] for k in FORM}, rel=1e-6)


def test_zeros_around_the_signal_leave_the_histogram_alone():
    image = np.abs(noise()) + 1
    padded = describe(np.pad(image, 3))
    for name in ("u05", "u25", "u50", "u75", "u95", "log_iqr"):
        assert padded[name] == pytest.approx(describe(image)[name], abs=1e-9)


def test_large_volumes_are_sampled_to_the_same_description(monkeypatch):
    image = noise((60, 63, 66))
    for axis in range(3):
        image = image + np.roll(image, 1, axis) + np.roll(image, 2, axis)
    whole = describe(image)
    monkeypatch.setattr(intensity, "_ENOUGH", image.size / 27)  # every third voxel along each axis
    assert describe(image) == pytest.approx(whole, abs=0.1)


@pytest.mark.parametrize(
    "image",
    [np.zeros((20, 20, 20)), np.full((20, 20, 20), 7), np.ones((4, 30, 30)), noise((5, 5, 5)), np.pad(np.ones((5, 5, 5)), 9)],
    ids=["zeros", "constant", "thin", "tiny", "all but empty"],
)  # fmt: skip
def test_no_structure(image):
    assert describe(image) is None


def test_every_number_has_a_meaning():
    assert set(FORM) == set(MEANING) == set(describe(noise())) - {"floor"}
