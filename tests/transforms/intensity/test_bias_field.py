from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from medseg.transforms import RandBiasd
from medseg.transforms.intensity import BiasField, shade
from medseg.transforms.intensity.bias_field import bias_of


def test_the_field_is_scipys_spline():
    control, shape = np.random.default_rng(0).normal(size=(4, 4, 4)).astype(np.float32), (7, 9, 11)
    weights = [BSpline(np.arange(-3, 5), np.eye(4), 3)(np.linspace(0, 1 - 1e-12, n)) for n in shape]
    expected = np.einsum("abc,ia,jb,kc->ijk", control, *weights)
    np.testing.assert_allclose(bias_of(BiasField(control), shape).numpy(), expected, atol=1e-5)
    image = torch.rand(shape)
    np.testing.assert_allclose(shade(image, BiasField(control)), image.numpy() * np.exp(expected), rtol=1e-4)


def test_it_stays_within_its_strength_brightens_and_darkens_and_is_smooth():
    transform = RandBiasd("x", strength=0.7, control=5).set_random_state(0)
    fields = [bias_of(transform.draw(), (20, 20, 20)) for _ in range(200)]
    assert max(f.abs().max() for f in fields) <= 0.7
    assert max(f.max() for f in fields) > 0.25
    assert np.mean([f.mean().item() for f in fields]) == pytest.approx(0, abs=0.01)
    assert max(f.diff(dim=0).abs().max() for f in fields) < 0.15


def test_from_json_bit_for_bit():
    choice = RandBiasd("x").draw()
    again = BiasField.from_json(json.loads(json.dumps(choice.to_json())))
    assert np.array_equal(choice.control, again.control)
    assert again.control.dtype == np.float32
