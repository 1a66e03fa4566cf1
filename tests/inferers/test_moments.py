"""Moments: against the definitions in NumPy, their bounds, and what must be exact."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics.active_learning_metrics import compute_variance

from medseg.errors import InputError, UsageError
from medseg.inferers.moments import Moments, Uncertainty


def collect(logits: np.ndarray, **options) -> Uncertainty:
    """(T, K, *space) -> statistics, given in two parts."""
    count, channels, *space = logits.shape
    moments = Moments(space, channels, count, variance=True, **options)
    half = space[0] // 2
    for rows in (slice(0, half), slice(half, space[0])):
        for t in range(count):
            where = (rows, *[slice(0, n) for n in space[1:]])
            moments.add(where, torch.from_numpy(logits[(t, slice(None), *where)].astype(np.float32)), t)
    return moments.result()


def entropy(p: np.ndarray, axis: int) -> np.ndarray:
    return -np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0), axis)


def softmax(z: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(z - z.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


SCORES = arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(2, 5), *[st.integers(1, 4)] * 3),
    elements=st.floats(-30, 30, width=16),
)


@given(SCORES, st.sampled_from([0.5, 1.0, 2.0]))
def test_equal_to_the_definitions(logits, temperature):
    count, classes = logits.shape[:2]
    found = collect(logits, temperature=temperature)
    p = softmax(logits / temperature, 1)
    mean = p.mean(0)
    unit = 1 / log(classes)
    np.testing.assert_allclose(found.mean, mean, atol=2e-6)
    np.testing.assert_allclose(found.entropy, entropy(mean, 0) * unit, atol=5e-6)
    information = np.maximum(entropy(mean, 0) - entropy(p, 1).mean(0), 0) * unit
    np.testing.assert_allclose(found.mutual_information, information, atol=1e-5)
    assert found.variance is not None
    np.testing.assert_allclose(found.variance, p.var(0), atol=2e-6)
    assert found.samples == count
    # a vote where the winner is clear
    clear = np.sort(logits, 1)[:, -1] - np.sort(logits, 1)[:, -2] > 1e-2
    votes = np.stack([(logits.argmax(1) == k).sum(0) for k in range(1, classes)])
    assert np.array_equal(found.votes.numpy()[:, clear.all(0)], votes[:, clear.all(0)])
    assert found.voxels.sum().item() == found.votes.sum(dtype=torch.int64).item()


@given(SCORES)
def test_sigmoid_channels_have_binary_entropies(logits):
    values = range(1, logits.shape[1] + 1)
    found = collect(logits, regions=values)
    p = 1 / (1 + np.exp(-logits))
    both = np.stack([p, 1 - p], 2)
    mean = both.mean(0)
    np.testing.assert_allclose(found.entropy, entropy(mean, 1).mean(0) / log(2), atol=1e-5)
    information = np.maximum(entropy(mean, 1) - entropy(both, 2).mean(0), 0).mean(0) / log(2)
    np.testing.assert_allclose(found.mutual_information, information, atol=2e-5)


@given(SCORES, st.integers(2, 9))
def test_equal_samples_give_exactly_no_mutual_information_and_the_entropy_of_one(logits, count):
    one = collect(logits[:1])
    many = collect(np.repeat(logits[:1], count, 0))
    assert not many.mutual_information.any()
    assert torch.equal(many.entropy, one.entropy)
    assert torch.equal(many.mean, one.mean)
    assert many.variance is not None
    assert not many.variance.any()
    assert torch.equal(many.labels, one.labels)


def test_certainty_has_no_variance_where_monai_reports_a_quarter():
    """MONAI 1.6.1's compute_variance mixes classes: 10 certain and equal samples of 2 classes have variance 0.25."""
    sure = np.zeros((10, 2, 2, 2, 2))
    sure[:, 1] = 60.0
    found = collect(sure)
    assert found.variance is not None
    assert found.variance.abs().max() == 0
    assert found.entropy.max() < 1e-6
    theirs = compute_variance(torch.from_numpy(softmax(sure, 1)), include_background=True)
    assert float(torch.as_tensor(theirs).max()) == pytest.approx(0.25, abs=1e-6)


def test_bounds_on_a_million_voxels():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 4, (4, 3, 100, 100, 100)).astype(np.float32)
    logits[:, :, 0] *= 1000  # certain ones, and underflow
    found = collect(logits)
    assert found.variance is not None
    for values, top in (
        (found.entropy, 1.0),
        (found.mutual_information, log(min(3, 4)) / log(3)),
        (found.variance, 0.25),
    ):
        assert torch.isfinite(values).all()
        assert values.min() >= 0
        assert values.max() <= top + 1e-6
    assert (found.mutual_information <= found.entropy + 1e-6).all()
    assert found.variance.sum(0).max() <= 1 - 1 / 3 + 1e-6
    shuffled = collect(logits[:, [2, 0, 1]])
    torch.testing.assert_close(shuffled.entropy, found.entropy, atol=1e-6, rtol=0)


def test_two_opposed_samples_are_ln_2_apart():
    logits = np.array([[60.0, 0.0], [0.0, 60.0]]).reshape(2, 2, 1, 1, 1)
    found = collect(logits)
    assert found.mutual_information.item() == pytest.approx(1.0, abs=1e-6)  # ln 2 / ln 2
    assert found.variance is not None
    assert found.variance.sum().item() == pytest.approx(0.5, abs=1e-6)
    assert found.votes.item() == 1


def test_what_was_never_written_is_background_for_certain():
    found = Moments((2, 2, 2), 3, 2).result()
    assert not found.entropy.any()
    assert not found.labels.any()


def test_nan_and_too_many_samples_are_refused():
    with pytest.raises(InputError, match="not numbers") as caught:
        collect(np.full((2, 2, 2, 2, 2), np.nan))
    assert caught.value.code == "MS-U143"
    with pytest.raises(UsageError, match="256 samples") as caught:
        Moments((1, 1, 1), 2, 256)
    assert caught.value.code == "MS-U147"
