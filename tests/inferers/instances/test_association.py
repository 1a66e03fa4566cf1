"""Oracle: every assignment tried, and objects whose instances are known."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.inferers.instances.association import Object, associate, matched, seen
from medseg.inferers.instances.found import MaskCrop


def block(low: tuple, size: tuple, label: int = 0, p: float = 1.0):
    return seen(MaskCrop(low, torch.full(size, p)), label)


def iou(a, b) -> float:
    both = [min(x, y) - max(s, t) for s, t, x, y in zip(a.crop.low, b.crop.low, a.crop.high, b.crop.high, strict=True)]
    shared = np.prod([max(0, n) for n in both])
    return shared / (a.crop.probability.numel() + b.crop.probability.numel() - shared)


BLOCKS = st.lists(
    st.tuples(st.tuples(*[st.integers(0, 4)] * 3), st.tuples(*[st.integers(2, 5)] * 3), st.integers(0, 1)), max_size=4
)


@settings(max_examples=60)
@given(BLOCKS, BLOCKS, st.sampled_from([0.1, 0.3, 0.5]))
def test_matching_is_the_best_of_all(sample, consensus, least):
    ones, others = ([block(*x) for x in side] for side in (sample, consensus))
    place = matched(ones, others, least)
    taken = [k for k in place if k >= 0]
    assert len(taken) == len(set(taken))

    def worth(choice) -> float:
        return sum(
            iou(ones[n], others[k]) + (ones[n].label == others[k].label)
            for n, k in enumerate(choice)
            if k >= 0 and iou(ones[n], others[k]) >= least and iou(ones[n], others[k]) > 0
        )

    slots = [*range(len(others)), *[-1] * len(ones)]
    best = max((worth(choice) for choice in itertools.permutations(slots, len(ones))), default=0)
    assert abs(worth(place) - best) < 1e-9
    assert all(iou(ones[n], others[k]) >= least for n, k in enumerate(place) if k >= 0)


@given(st.integers(0, 10**6), st.integers(1, 6))
def test_objects_that_lie_apart_are_found_again_whatever_the_order(seed, count):
    rng = np.random.default_rng(seed)
    samples, truth = [], []
    for _ in range(count):
        there = rng.permutation([k for k in range(5) if rng.random() < 0.6])
        samples.append([block((int(10 * k + rng.integers(0, 2)), 0, 0), (6, 6, 6), int(k)) for k in there])
        truth.append(there.tolist())
    for row in associate(samples, 0.3):
        kinds = {truth[t][n] for t, n in enumerate(row) if n >= 0}
        assert len(kinds) == 1
        kind = kinds.pop()
        assert row == [there.index(kind) if kind in there else -1 for there in truth]


@given(st.integers(0, 10**6))
def test_every_instance_is_of_exactly_one_object(seed):
    rng = np.random.default_rng(seed)
    samples = [
        [
            block(tuple(rng.integers(0, 9, 3).tolist()), tuple(rng.integers(2, 7, 3).tolist()), int(rng.integers(2)))
            for _ in range(rng.integers(0, 6))
        ]
        for _ in range(4)
    ]
    rows = associate(samples, 0.3)
    for t, sample in enumerate(samples):
        assert sorted(row[t] for row in rows if row[t] >= 0) == list(range(len(sample)))


def test_an_object_is_the_mean_of_its_instances():
    one = Object.of([block((2, 0, 0), (2, 1, 1)), block((0, 0, 0), (3, 1, 1), p=0.5), block((3, 0, 0), (4, 1, 1))])
    assert one.low.tolist() == [0, 0, 0]
    assert one.total[:, 0, 0].tolist() == [0.5, 0.5, 1.5, 2, 1, 1, 1]
    assert one.mean().label == 0


def test_the_class_of_most_votes_counts_of_equal_ones_the_lowest():
    assert Object.of([block((0, 0, 0), (2, 2, 2), c) for c in (3, 1, 3, 1, 0)]).mean().label == 1


def test_equal_classes_are_matched_first():
    near, far = block((0, 0, 0), (4, 4, 4), 1), block((1, 0, 0), (4, 4, 4), 0)
    assert matched([block((0, 0, 0), (4, 4, 4), 0)], [near, far], 0.3) == [1]


def test_nothing():
    assert associate([[], []], 0.3) == []
    assert matched([], [block((0, 0, 0), (2, 2, 2))], 0.3) == []
