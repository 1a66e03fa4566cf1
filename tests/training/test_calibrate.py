"""Fits against what the data were made with."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.training.calibrate import cross_fit, fit_dice, fit_temperature, mean_probabilities


def drawn(temperature: float, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `temperature` times too large for the truth that was drawn from them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (3, count)).astype(np.float32)
    p = mean_probabilities(logits[None])
    truth = (p.cumsum(0) < rng.random(count)).sum(0)
    return (logits * temperature)[None], truth


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_data_is_found(temperature):
    cases = [drawn(temperature, 20_000, seed) for seed in range(2)]
    assert fit_temperature(cases) == pytest.approx(temperature, rel=0.04)


def test_the_mean_of_samples_is_taken_after_the_softmax():
    logits = np.array([[[5.0], [0.0]], [[0.0], [5.0]]], np.float32)
    assert mean_probabilities(logits) == pytest.approx(0.5)
    assert mean_probabilities(logits[:1], 1e-2).ravel() == pytest.approx([1, 0])


def test_a_line_is_found_and_never_falls():
    x = np.array([0.8, 0.85, 0.9, 0.95])
    assert fit_dice(x, 0.2 + 0.7 * x) == (pytest.approx(0.2), pytest.approx(0.7))
    rng = np.random.default_rng(0)
    many = rng.uniform(0.7, 1, 2000)
    assert fit_dice(many, 0.5 * many + 0.3 + rng.normal(0, 0.05, 2000))[1] == pytest.approx(0.5, abs=0.06)
    slopes = [fit_dice(many[:20], rng.normal(0.85, 0.05, 20))[1] for _ in range(200)]
    assert np.mean(np.array(slopes) == 0) > 0.7, "noise has no slope"
    assert fit_dice(x, 1 - x) == (pytest.approx(np.mean(1 - x)), 0)
    assert fit_dice([0.9, 0.9], [0.7, 0.8]) == (pytest.approx(0.75), 0)
    assert fit_dice([0.9, np.nan], [0.7, 0.0]) == (pytest.approx(0.7), 0)
    with pytest.raises(ValueError, match="at least one case"):
        fit_dice([np.nan], [0.0])
    with pytest.raises(ValueError, match="at least one voxel"):
        fit_temperature([])


def test_nobody_is_scored_on_what_was_fitted_on_him():
    fits = cross_fit(list(range(6)), lambda some: set(some))
    assert fits == [{1, 3, 5}, {0, 2, 4}] * 3
