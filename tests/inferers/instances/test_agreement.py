"""Oracle: figures worked out by hand, NumPy's own statistics, and samples drawn from a known truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.errors import UsageError
from medseg.inferers.instances.agreement import agreement, entropy_map
from medseg.inferers.instances.found import Instances, MaskCrop, joined, nothing

SPACING = (3.0, 1.0, 0.5)


def one(low: tuple, high: tuple, score: float, label: int = 0, p: float = 1.0) -> Instances:
    size = [b - a for a, b in zip(low, high, strict=True)]
    mask = MaskCrop(low, torch.full(size, p))
    return Instances(
        torch.tensor([[*low, *high]]).float(), torch.tensor([score]).float(), torch.tensor([label]), [mask]
    )


def test_worked_example():
    samples = [
        joined([one((0, 0, 0), (4, 4, 4), 0.9), one((20, 0, 0), (24, 4, 4), 0.4, 2)]),
        one((0, 0, 0), (4, 4, 6), 0.7),
        one((0, 0, 0), (4, 4, 4), 0.5, 1),
        nothing(),
    ]
    found = agreement(samples, SPACING)
    assert len(found) == 2
    assert found.frequency.tolist() == [0.75, 0.25]
    assert found.rare.tolist() == [False, True]
    assert found.members.tolist() == [[0, 0, 0, -1], [1, -1, -1, -1]]
    assert found.instances.scores.tolist() == pytest.approx([2.1 / 4, 0.1])
    assert found.score_mean.tolist() == pytest.approx([0.7, 0.4])
    assert found.score_sd[0] == pytest.approx(np.std([0.9, 0.7, 0.5]))
    assert found.instances.boxes[0].tolist() == pytest.approx([0, 0, 0, 4, 4, 14 / 3])
    assert found.box_sd_mm[0].tolist() == pytest.approx([0, 0, 0, 0, 0, 0.5 * np.std([4, 6, 4])])
    assert found.volume_mean_mm3.tolist() == pytest.approx([1.5 * (64 + 96 + 64) / 3, 1.5 * 64])
    assert found.volume_sd_mm3[0] == pytest.approx(1.5 * np.std([64, 96, 64]))
    assert found.mask_iou.tolist() == pytest.approx([(1 + 1 + 64 / 96) / 3, 1])
    assert found.instances.classes.tolist() == [0, 2]
    assert found.class_share.tolist() == pytest.approx([2 / 3, 1])
    for value in (found.score_sd[1], found.volume_sd_mm3[1], *found.box_sd_mm[1]):
        assert np.isnan(value)


def test_entropy_counts_the_samples_that_found_nothing():
    samples = [one((0, 0, 0), (2, 2, 2), 0.9), one((0, 0, 0), (2, 2, 3), 0.9), nothing(), nothing()]
    found = agreement(samples, (1, 1, 1))
    values = found.entropy[0].probability
    assert values[0, 0].tolist() == pytest.approx([1, 1, -(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75))], abs=1e-3)
    certain = agreement([samples[0]] * 3, (1, 1, 1))
    assert certain.entropy[0].probability.max() == 0


def test_the_map_of_entropy_has_the_greatest_of_each_voxel():
    half = one((1, 1, 1), (4, 4, 4), 0.9, p=0.6)
    beside = one((3, 3, 3), (6, 6, 6), 0.9, p=0.75)
    made = entropy_map(agreement([joined([half, beside])], (1, 1, 1)), (7, 7, 7))
    high, low = (-(p * np.log2(p) + (1 - p) * np.log2(1 - p)) for p in (0.6, 0.75))
    assert made[2, 2, 2] == pytest.approx(high, abs=1e-3)
    assert made[3, 3, 3] == pytest.approx(high, abs=1e-3)
    assert made[5, 5, 5] == pytest.approx(low, abs=1e-3)
    assert made[0].max() == made[6].max() == 0
    assert made.dtype == np.float32


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_equal_samples_agree_wholly(seed, count):
    rng = np.random.default_rng(seed)
    places = rng.permutation(9)[: rng.integers(1, 9)]
    sample = joined([one((10 * int(k), 0, 0), (10 * int(k) + 5, 4, 3), 0.1 + k / 10, int(k % 3)) for k in places])
    found = agreement([sample] * count, SPACING)
    assert (found.frequency == 1).all()
    assert (found.mask_iou == 1).all()
    assert (found.class_share == 1).all()
    torch.testing.assert_close(found.instances.scores, sample.scores.sort(descending=True).values.float())
    if count > 1:
        assert np.abs(found.score_sd).max() < 1e-7
        assert found.box_sd_mm.max() == 0


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.permutations(range(5)))
def test_the_order_of_the_samples_does_not_matter_where_objects_lie_apart(seed, order):
    rng = np.random.default_rng(seed)
    samples = []
    for _ in range(5):
        parts = [
            one((10 * k, 0, 0), (10 * k + int(rng.integers(4, 7)), 4, 4), float(rng.uniform(0.2, 1)), k % 2)
            for k in range(6)
            if rng.random() < 0.7
        ]
        samples.append(joined(parts))
    a, b = agreement(samples, SPACING), agreement([samples[t] for t in order], SPACING)
    assert len(a) == len(b)
    np.testing.assert_allclose(a.frequency, b.frequency)
    np.testing.assert_allclose(a.box_sd_mm, b.box_sd_mm, atol=1e-9)
    assert np.array_equal(a.members[:, order], b.members)


def test_frequency_tells_true_from_false():
    rng = np.random.default_rng(0)
    true, false = 40, 40
    samples = []
    for _ in range(10):
        there = [
            *(k for k in range(true) if rng.random() < 0.9),
            *(true + k for k in range(false) if rng.random() < 0.25),
        ]
        samples.append(joined([one((8 * k, 0, 0), (8 * k + 5, 5, 5), float(rng.uniform(0.4, 1))) for k in there]))
    found = agreement(samples, SPACING)
    right = (found.instances.boxes[:, 0] < 8 * true).numpy()
    assert right.sum() == true
    assert len(found) - true == len({n for s in samples for n in s.boxes[:, 0].tolist() if n >= 8 * true})
    pairs = found.frequency[right][:, None] - found.frequency[~right]
    assert ((pairs > 0) + 0.5 * (pairs == 0)).mean() > 0.95
    assert (found.rare == (found.frequency < 0.5)).all()
    assert found.rare[~right].mean() > 0.9


def test_parallel_neighbours_are_not_taken_for_each_other():
    rng = np.random.default_rng(1)
    samples = []
    for _ in range(6):
        rods = [
            one((4 * k + int(rng.integers(0, 2)), 0, 0), (4 * k + 4, 30, 4), 0.9) for k in rng.permutation(5).tolist()
        ]
        samples.append(joined(rods))
    found = agreement(samples, SPACING)
    assert len(found) == 5
    assert (found.frequency == 1).all()
    for row in found.members:
        assert len({int(samples[t].boxes[n, 3]) for t, n in enumerate(row.tolist())}) == 1


def test_no_instance_at_all():
    found = agreement([nothing(), nothing()], SPACING)
    assert len(found) == 0
    assert found.members.shape == (0, 2)
    assert found.box_sd_mm.shape == (0, 6)
    assert found.rare.shape == (0,)
    assert entropy_map(found, (3, 3, 3)).sum() == 0


def test_no_sample_is_refused():
    with pytest.raises(UsageError, match="MS-U372 no sample to compare"):
        agreement([], SPACING)
