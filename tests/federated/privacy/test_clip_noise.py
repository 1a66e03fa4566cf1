"""Norms that are clipped, and noise whose variance is the one that was promised."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import stats

from medseg.federated.privacy.clip_noise import ClipError, clipped, fresh_generator, noised, norm

numbers = st.floats(-1e4, 1e4, width=32)
tables = st.dictionaries(
    st.sampled_from(["a", "b.weight", "control/a"]),
    arrays(np.float32, array_shapes(max_dims=3, max_side=4), elements=numbers).map(torch.from_numpy),
    min_size=1,
)


def flat(update) -> np.ndarray:
    return np.concatenate([value.numpy().ravel() for value in update.values()]).astype(np.float64)


def test_the_worked_example():
    update = {"a": torch.tensor([3.0]), "b": torch.tensor([[4.0]])}
    found, before = clipped(update, 1.0)
    assert before == 5.0
    assert found["a"].item() == pytest.approx(0.6, rel=2e-6)
    assert found["b"].item() == pytest.approx(0.8, rel=2e-6)


@given(tables, st.floats(1e-3, 1e5))
def test_the_norm_is_never_above_the_clip_and_the_direction_is_kept(update, clip):
    found, before = clipped(update, clip)
    assert norm(update) == pytest.approx(np.linalg.norm(flat(update)), rel=1e-12)
    assert np.linalg.norm(flat(found)) <= clip
    assert {n: v.shape for n, v in found.items()} == {n: v.shape for n, v in update.items()}
    if before <= clip:
        assert np.array_equal(flat(found), flat(update))
    else:
        assert np.linalg.norm(flat(found)) == pytest.approx(clip, rel=1e-4)
        assert flat(found) * before / clip == pytest.approx(flat(update), rel=1e-4, abs=1e-4 * before)


@given(tables, tables)
def test_two_clipped_updates_are_at_most_twice_the_norm_apart(one, other):
    """What the accountant counts with."""
    names = set(one) & set(other)
    pair = [{n: t[n].reshape(-1)[:1] for n in names} for t in (one, other)]
    ours, theirs = (clipped(table, 1.0)[0] for table in pair)
    assert math.sqrt(sum(float((ours[n] - theirs[n]).double().square().sum()) for n in names)) <= 2.0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(value):
    with pytest.raises(ClipError, match="MS-J120"):
        clipped({"a": torch.tensor([1.0, value])}, 1.0)


@pytest.mark.parametrize("deviation", [1e-3, 0.5, 20.0])
def test_the_noise_has_the_promised_variance(deviation):
    """n noise values of variance s^2: n v / s^2 is chi-squared; the sample lies in its interval of 99.99 %."""
    update = {"a": torch.zeros(400, 250), "b": torch.zeros(7, 11, 13)}
    noise = flat(noised(update, deviation, torch.Generator().manual_seed(5)))
    n = len(noise)
    low, high = stats.chi2.ppf([5e-5, 1 - 5e-5], n) / n
    assert low < np.mean(noise**2) / deviation**2 < high
    assert abs(noise.mean()) < 4 * deviation / math.sqrt(n)
    assert stats.kstest(noise / deviation, "norm").pvalue > 1e-3  # Gaussian, not only of that variance
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 5 / math.sqrt(n)


def test_noise_adds_to_the_update_on_every_entry():
    update = {"a": torch.arange(1000.0)}
    found = noised(update, 0.1, torch.Generator().manual_seed(1))
    assert 0.09 < float((found["a"] - update["a"]).std()) < 0.11
    assert bool((found["a"] != update["a"]).all())


def test_no_seed_of_the_training_fixes_the_noise():
    draws = []
    for _ in range(2):
        torch.manual_seed(0)
        draws.append(torch.randn(8, generator=fresh_generator()))
    assert not torch.equal(*draws)
