from __future__ import annotations

import pytest
import torch
from scipy.stats import kstest

from medseg.transforms.intensity import Noise, add_noise


def test_noise_is_gaussian_of_the_strength_that_was_said():
    noise = add_noise(torch.zeros(20, 20, 20), Noise(0.3, 5)).flatten().double().numpy()
    assert kstest(noise / 0.3, "norm").pvalue > 0.01
    assert noise.std() == pytest.approx(0.3, rel=0.03)


def test_the_seed_names_it_and_nothing_else_draws():
    image, state = torch.rand(5, 6, 7), torch.get_rng_state()
    one, two, other = (add_noise(image, Noise(0.1, seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(add_noise(image, Noise(0.0, 1)), image)
