"""Doubt of a case in numbers: worked by hand, and against the samples themselves."""

from __future__ import annotations

from itertools import combinations
from math import log

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg.inferers.moments import Moments
from medseg.workflows.ranking.measures import CRITERIA, Measures, doubtful, measures


def collected(probabilities):
    """(T, C, *space) class probabilities -> what the inferers collect of them."""
    samples = torch.as_tensor(np.asarray(probabilities), dtype=torch.float32)
    moments = Moments(samples.shape[2:], samples.shape[1], len(samples))
    everywhere = tuple(slice(None) for _ in samples.shape[2:])
    for t, sample in enumerate(samples):
        moments.add(everywhere, sample.log(), t)
    return moments.result()


def binary(p):
    """(T, *space) probabilities of the one structure -> (T, 2, *space)."""
    p = np.asarray(p, float)
    return np.stack([1 - p, p], axis=1)


def entropy(p):
    return -(p * np.log(p) + (1 - p) * np.log(1 - p)) / log(2)


def test_by_hand():
    p = np.full((2, 1, 1, 200), 1e-4)
    p[:, ..., :2] = 0.999  # found by both
    p[0, ..., 2] = 0.9  # found by one; the mean is below 0.5
    p[1, ..., 2] = 0.05
    found = measures(collected(binary(p)), voxel_ml=0.5)
    mean = p.mean(axis=0)[0, 0, :3]
    assert found.entropy == pytest.approx(entropy(mean).mean(), rel=1e-4)
    expected = entropy(p[:, 0, 0, :3]).mean(axis=0)
    assert found.mutual_information == pytest.approx((entropy(mean) - expected).mean(), rel=1e-3)
    assert found.disagreement == pytest.approx(1 - 2 * 2 / (3 + 2))
    assert found.foreground_ml == pytest.approx(1.0)


def test_nothing_found_but_much_in_doubt_is_worth_more_than_a_sure_case():
    nothing = np.full((2, 10, 10, 10), 1e-6)
    nothing[:, 4:6, 4:6, 4:6] = 0.45  # no sample finds it
    one_finds = nothing.copy()
    one_finds[0, 4:6, 4:6, 4:6] = 0.52
    sure = np.full((2, 10, 10, 10), 1e-6)
    sure[:, 2:8, 2:8, 2:8] = 0.999
    # 1 % of 1000 voxels are 10: the 8 doubtful ones and 2 that are not.
    worth = [measures(collected(binary(p)), voxel_ml=0.001) for p in (nothing, one_finds, sure)]
    assert worth[0].foreground_ml == worth[1].foreground_ml == 0
    assert worth[0].entropy == pytest.approx(0.8 * entropy(0.45), rel=1e-3)
    assert worth[2].entropy == pytest.approx(entropy(0.999), rel=1e-3)
    assert worth[1].entropy > worth[0].entropy > worth[2].entropy
    assert (worth[0].disagreement, worth[1].disagreement, worth[2].disagreement) == (0.0, 1.0, 0.0)


def test_a_stray_voxel_does_not_decide():
    p = np.full((2, 10, 10, 10), 1e-6)
    p[0, 0, 0, 0] = 0.6
    found = measures(collected(binary(p)), voxel_ml=0.001)
    assert found.entropy == pytest.approx(entropy(0.3) / 10, rel=1e-3)


def test_the_smallest_region():
    empty, no_votes = np.zeros((10, 10, 10), bool), np.zeros((1, 10, 10, 10), np.uint8)
    doubt = np.random.default_rng(0).random((10, 10, 10))
    for voxel_ml, voxels in ((0.001, 10), (0.2, 5), (0.3, 4), (5.0, 1)):
        where = doubtful(empty, no_votes, doubt, voxel_ml)
        assert where.sum() == voxels
        assert doubt[where].min() >= doubt[~where].max(), "the most uncertain ones"
    assert not empty.any(), "what was given is not written to"
    flat = doubtful(empty, no_votes, np.zeros_like(doubt), 0.2)
    assert np.array_equal(np.flatnonzero(flat), np.arange(5))


def test_a_large_foreground_is_taken_as_it_is():
    foreground = np.zeros((10, 10, 10), bool)
    foreground[:5] = True
    votes = np.zeros((2, 10, 10, 10), np.uint8)
    votes[0, 5], votes[1, 6] = 1, 3
    assert np.array_equal(
        doubtful(foreground, votes, np.ones((10, 10, 10)), 1.0), np.arange(1000).reshape(10, 10, 10) < 700
    )


@given(st.integers(2, 5), st.integers(2, 4), st.integers(0, 10**6))
def test_against_the_samples_themselves(samples, classes, seed):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(classes, 0.3), size=(samples, 5, 4, 3)).transpose(0, 4, 1, 2, 3).clip(1e-6)
    p /= p.sum(axis=1, keepdims=True)
    found = measures(collected(p), voxel_ml=1.0)
    mean, labels = p.mean(axis=0), p.argmax(axis=1)
    where = (mean.argmax(axis=0) > 0) | (labels > 0).any(axis=0)
    if not where.any():
        return
    unit = log(classes)
    total = -(mean * np.log(mean)).sum(axis=0)[where] / unit
    each = -(p * np.log(p)).sum(axis=1).mean(axis=0)[where] / unit
    assert found.entropy == pytest.approx(total.mean(), abs=1e-5)
    assert found.mutual_information == pytest.approx((total - each).mean(), abs=1e-5)
    apart = []
    for value in range(1, classes):
        masks = [labels[t] == value for t in range(samples)]
        pairs = list(combinations(masks, 2))
        size = sum(a.sum() + b.sum() for a, b in pairs)
        apart += [1 - 2 * sum((a & b).sum() for a, b in pairs) / size] if size else []
    assert found.disagreement == pytest.approx(sum(apart) / len(apart) if apart else 0.0)


def test_every_criterion_is_a_measure():
    assert set(CRITERIA.values()) <= set(Measures.__dataclass_fields__)
