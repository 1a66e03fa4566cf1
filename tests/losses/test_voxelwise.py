"""Cross-entropy against torch's, focal loss against its closed form, and what soft labels make of them."""

from __future__ import annotations

import math

import pytest
import torch
from monai.losses import FocalLoss as MonaiFocalLoss
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from medseg.losses import CrossEntropyLoss, FocalLoss


def batch(seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(2, 4, 3, 5, 4, generator=rng), torch.randint(0, 4, (2, 1, 3, 5, 4), generator=rng)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", [None, (1.0, 2.0, 0.5, 3.0)])
@pytest.mark.parametrize("ignore", [None, 255])
def test_of_hard_labels_it_is_torchs(smoothing, weight, ignore):
    x, y = batch()
    if ignore:
        y = torch.where(torch.rand(y.shape) < 0.3, ignore, y)
    found = CrossEntropyLoss(smoothing, weight=weight, ignore_index=ignore)(x, y)
    tensor = None if weight is None else torch.tensor(weight)
    expected = cross_entropy(
        x, y[:, 0], weight=tensor, label_smoothing=smoothing, ignore_index=-100 if ignore is None else ignore
    )
    torch.testing.assert_close(found, expected)


def test_of_soft_labels_it_is_torchs_and_least_where_they_are_met():
    x, _ = batch()
    soft = torch.rand(2, 4, 3, 5, 4).softmax(1)
    torch.testing.assert_close(CrossEntropyLoss()(x, soft), cross_entropy(x, soft))
    met = soft.log()
    least = CrossEntropyLoss()(met, soft)
    assert all(CrossEntropyLoss()(met + 0.1 * torch.randn_like(met), soft) > least for _ in range(10))
    assert FocalLoss()(met, soft).item() == pytest.approx(0, abs=1e-12)
    assert FocalLoss()(met + 0.1 * torch.randn_like(met), soft) > 1e-6


def test_of_regions_it_is_binary_cross_entropy():
    x, _ = batch()
    y = (torch.rand(x.shape) > 0.5).float()
    torch.testing.assert_close(CrossEntropyLoss(sigmoid=True)(x, y), binary_cross_entropy_with_logits(x, y))
    found = CrossEntropyLoss(sigmoid=True, weight=[0, 0, 1, 1])(x, y)
    torch.testing.assert_close(found, binary_cross_entropy_with_logits(x[:, 2:], y[:, 2:]))
    found = CrossEntropyLoss(0.2, sigmoid=True)(x, y)
    torch.testing.assert_close(found, binary_cross_entropy_with_logits(x, 0.8 * y + 0.1))


def test_focal_by_hand():
    """Probabilities 3/4 and 1/4: 1/16 of the cross-entropy of the first, 9/16 of the second's."""
    x = torch.tensor([math.log(3.0), 0.0]).view(1, 2, 1, 1, 1)
    right, wrong = torch.zeros(1, 1, 1, 1, 1), torch.ones(1, 1, 1, 1, 1)
    assert FocalLoss()(x, right).item() == pytest.approx(math.log(4 / 3) / 16)
    assert FocalLoss()(x, wrong).item() == pytest.approx(math.log(4) * 9 / 16)
    assert FocalLoss(gamma=3)(x, wrong).item() == pytest.approx(math.log(4) * 27 / 64)
    one = torch.tensor(math.log(3.0)).view(1, 1, 1, 1, 1)
    assert FocalLoss(sigmoid=True)(one, wrong).item() == pytest.approx(math.log(4 / 3) / 16)


def test_focal_is_monais_where_that_is_sound():
    """MONAI divides by the classes too; and is 4 times larger with an ignore_index that no voxel has."""
    x, y = batch()
    theirs = MonaiFocalLoss(to_onehot_y=True, use_softmax=True)(x, y)
    torch.testing.assert_close(FocalLoss()(x, y), 4 * theirs)
    torch.testing.assert_close(MonaiFocalLoss(to_onehot_y=True, use_softmax=True, ignore_index=99)(x, y), 4 * theirs)
    regions = (torch.rand(x.shape) > 0.5).float()
    torch.testing.assert_close(FocalLoss(sigmoid=True)(x, regions), MonaiFocalLoss()(x, regions))


def test_the_background_takes_part_in_the_softmax():
    """Without background MONAI's takes no notice of the background's logit."""
    x, y = batch()
    louder = x.clone()
    louder[:, 0] += 5
    theirs = MonaiFocalLoss(to_onehot_y=True, use_softmax=True, include_background=False)
    assert torch.equal(theirs(louder, y), theirs(x, y))
    assert FocalLoss(weight=[0, 1, 1, 1])(louder, y) > FocalLoss(weight=[0, 1, 1, 1])(x, y) + 1


def test_options_that_make_no_loss_are_refused():
    with pytest.raises(ValueError, match=r"gamma is 0 or at least 1, got 0.5"):
        FocalLoss(gamma=0.5)
    with pytest.raises(ValueError, match=r"label_smoothing lies in \[0, 1\)"):
        CrossEntropyLoss(1.0)
