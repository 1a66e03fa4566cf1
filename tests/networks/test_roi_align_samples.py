"""Where RoIAlign samples: the hand-worked example, the rules at the border, the weights."""

from __future__ import annotations

import math

import pytest
import torch

from medseg.networks.roi_align_samples import sample_axis


def sample(low, high, size, count, ratio, scale=1.0):
    return sample_axis(torch.tensor([low]).double(), torch.tensor([high]).double(), scale, size, count, ratio)


def test_the_hand_worked_example():
    s = sample(1.0, 4.0, 6, 3, 2)
    assert s.position.tolist() == [[0.75, 1.25, 1.75, 2.25, 2.75, 3.25]]
    assert s.bins.tolist() == [[0, 0, 1, 1, 2, 2]]
    low, near, far = s.taps(torch.float64)
    first = torch.zeros(6, dtype=torch.float64)
    for k in (0, 1):
        first[low[0, k]] += near[0, k]
        first[low[0, k] + 1] += far[0, k]
    assert first.tolist() == [0.125, 0.75, 0.125, 0, 0, 0]


def test_the_rules_at_the_border():
    """One sample a bin, at the indices -1.5, -1, -0.5, ..., 3, 3.5 of 3 voxels."""
    s = sample(-1.25, 4.25, 3, 11, 1)
    assert s.share.tolist() == [[0] + [1] * 9 + [0]]
    assert s.position[0, 1:10].tolist() == [0, 0, 0, 0.5, 1, 1.5, 2, 2, 2]
    low, near, far = s.taps(torch.float64)
    assert low.max() == 2
    assert torch.equal(near + far, s.share)
    assert not far[0, s.position[0] == 2].any()  # nothing is read behind the last voxel


@pytest.mark.parametrize(
    ("low", "high", "share"),
    [(0.0, 4.0, 0.5), (0.0, 4.1, 1 / 3), (0.0, 2.0, 1.0), (0.0, 0.1, 1.0), (1.0, 1.0, 0.0), (3.0, 1.0, 0.0)],
)
def test_without_a_ratio_a_bin_has_as_many_samples_as_it_is_voxels_wide(low, high, share):
    s = sample(low, high, 8, 2, None)
    assert s.share.max().item() == pytest.approx(share)
    expected = 2 if share else 0
    assert s.share.sum().item() == pytest.approx(expected)  # one for each bin: all lie inside


@pytest.mark.parametrize("ratio", [2, None])
@pytest.mark.parametrize(
    ("low", "high"), [(math.nan, 2), (0, math.nan), (0, math.inf), (-math.inf, 1), (-math.inf, math.inf)]
)
def test_a_box_that_is_not_finite_has_no_samples(low, high, ratio):
    s = sample(low, high, 5, 3, ratio)
    assert not s.share.any()
    assert s.position.isfinite().all()


def test_a_wide_box_makes_only_the_samples_that_can_count():
    s = sample(-1e7, 1e7, 20, 7, None)
    assert s.position.shape[1] < 70
    each = math.ceil(2e7 / 7)
    assert round(s.share.sum().item() * each) in (21, 22)  # a sample a voxel, and the border's


def test_each_box_has_its_own_number_of_samples():
    both = sample_axis(torch.tensor([0.0, 2.0]), torch.tensor([9.0, 3.0]), 1.0, 9, 3, None)
    alone = [sample_axis(torch.tensor([a]), torch.tensor([b]), 1.0, 9, 3, None) for a, b in ((0.0, 9.0), (2.0, 3.0))]
    for r, one in enumerate(alone):
        used = both[[r]].share != 0
        assert torch.equal(both[[r]].position[used], one.position[one.share != 0])
        assert torch.equal(both[[r]].bins[used], one.bins[one.share != 0])


def test_scale_turns_boxes_into_voxels():
    a, b = sample(2.0, 14.0, 5, 4, 2, scale=0.25), sample(0.5, 3.5, 5, 4, 2)
    assert torch.equal(a.position, b.position)
