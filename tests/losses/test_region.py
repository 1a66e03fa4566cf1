"""Tversky and generalised Dice: closed forms, MONAI as oracle, and what MONAI's generalised Dice does not see."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import DiceLoss
from monai.losses import GeneralizedDiceLoss as MonaiGeneralizedDiceLoss
from monai.losses import TverskyLoss as MonaiTverskyLoss

from medseg.losses import FocalTverskyLoss, GeneralizedDiceLoss
from medseg.losses.region import overlap


def batch(seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, 6, 5, 4, generator=rng), torch.randint(0, 3, (2, 1, 6, 5, 4), generator=rng)


def hard(mask) -> torch.Tensor:
    """Logits (1, 1, n, 1, 1) of a region that is certain."""
    return torch.where(torch.tensor(mask, dtype=torch.bool), 80.0, -80.0).view(1, 1, -1, 1, 1)


def region(mask) -> torch.Tensor:
    return torch.tensor(mask, dtype=torch.float32).view(1, 1, -1, 1, 1)


def test_tversky_by_hand():
    """2 shared, 1 only predicted, 3 only true."""
    x, y = hard([1, 1, 1, 0, 0, 0, 0]), region([1, 1, 0, 1, 1, 1, 0])
    loss = FocalTverskyLoss(0.5, 0.5, 1, sigmoid=True)
    assert loss(x, y).item() == pytest.approx(1 - 2 / 4, abs=1e-5)
    assert FocalTverskyLoss(0.3, 0.7, 1, sigmoid=True)(x, y).item() == pytest.approx(1 - 2 / (2 + 0.3 + 2.1), abs=1e-5)
    assert FocalTverskyLoss(sigmoid=True)(x, y).item() == pytest.approx((1 - 2 / 4.4) ** 0.75, abs=1e-5)


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("together", [True, False])
def test_without_the_exponent_it_is_monais(background, together):
    x, y = batch()
    keep = {"include_background": background, "batch": together}
    dice = DiceLoss(to_onehot_y=True, softmax=True, soft_label=True, **keep)
    torch.testing.assert_close(FocalTverskyLoss(0.5, 0.5, 1, **keep)(x, y), dice(x, y))
    tversky = MonaiTverskyLoss(to_onehot_y=True, softmax=True, alpha=0.2, beta=0.9, **keep)
    torch.testing.assert_close(FocalTverskyLoss(0.2, 0.9, 1, **keep)(x, y), tversky(x, y))
    soft = torch.rand(x.shape).softmax(1)
    dice = DiceLoss(softmax=True, soft_label=True, **keep)
    torch.testing.assert_close(FocalTverskyLoss(0.5, 0.5, 1, **keep)(x, soft), dice(x, soft))
    weighted = DiceLoss(to_onehot_y=True, softmax=True, weight=[1, 3] if not background else [2, 1, 3], **keep)
    scale = 2 / 4 if not background else 3 / 6  # MONAI's is not divided by the sum of the weights
    found = FocalTverskyLoss(0.5, 0.5, 1, weight=[2, 1, 3], **keep)(x, y)
    torch.testing.assert_close(found, weighted(x, y) * scale)


@settings(deadline=None, max_examples=30)
@given(st.floats(0.05, 2), st.floats(0.05, 2), st.floats(0.4, 3), st.integers(0, 99))
def test_false_positives_and_negatives_trade_places(alpha, beta, gamma, seed):
    """alpha weighs what beta weighs where prediction and truth are swapped; the loss stays in [0, 1]."""
    rng = torch.Generator().manual_seed(seed)
    p, t = torch.rand(1, 1, 4, 4, 4, generator=rng), torch.rand(1, 1, 4, 4, 4, generator=rng)
    one = FocalTverskyLoss(alpha, beta, gamma, sigmoid=True)(p.logit(), t)
    other = FocalTverskyLoss(beta, alpha, gamma, sigmoid=True)(t.logit(), p)
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert 0 <= one <= 1


def test_soft_labels_are_met_at_no_cost():
    soft = torch.rand(2, 3, 5, 5, 5).softmax(1)
    both, extra, missed = overlap(soft, soft)
    torch.testing.assert_close(both, soft.sum((2, 3, 4)))
    assert extra.abs().max() == missed.abs().max() == 0
    assert FocalTverskyLoss(gamma=1)(soft.log(), soft).item() == pytest.approx(0, abs=1e-6)
    assert GeneralizedDiceLoss()(soft.log(), soft).item() == pytest.approx(0, abs=1e-6)
    assert FocalTverskyLoss(gamma=1)(soft.log() + 0.3 * torch.randn_like(soft), soft) > 1e-3


def test_generalised_dice_by_hand():
    """Volumes 2 and 4: squares of the classes' weights are as 4 to 1. Half of the small one is missed."""
    y = torch.tensor([1, 1, 2, 2, 2, 2, 0]).view(1, 1, -1, 1, 1)
    found = torch.tensor([1, 0, 2, 2, 2, 2, 0])
    x = (60.0 * (found == torch.arange(3)[:, None])).view(1, 3, -1, 1, 1)
    # Shared 1 x 4 + 4 x 1, twice; volumes of both sides (1 + 2) x 4 + (4 + 4) x 1.
    assert GeneralizedDiceLoss()(x, y).item() == pytest.approx(1 - 2 * 8 / 20, abs=1e-5)
    # The user's weights multiply: the second class alone is perfect.
    assert GeneralizedDiceLoss(weight=[0, 0, 1])(x, y).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("together", [True, False])
def test_generalised_dice_is_monais_where_that_is_sound(together):
    x, y = batch()
    keep = {"include_background": True, "batch": together}
    theirs = MonaiGeneralizedDiceLoss(
        to_onehot_y=True, softmax=True, soft_label=True, smooth_nr=1e-12, smooth_dr=1e-12, **keep
    )
    torch.testing.assert_close(GeneralizedDiceLoss(smooth=1e-12, **keep)(x, y), theirs(x, y))


def test_generalised_dice_sees_what_is_predicted_where_nothing_is():
    x = torch.zeros(1, 2, 4, 4, 4, requires_grad=True)
    y = torch.zeros(1, 1, 4, 4, 4)
    theirs = MonaiGeneralizedDiceLoss(to_onehot_y=True, softmax=True, include_background=False)(x, y)
    (grad,) = torch.autograd.grad(theirs, x)
    assert theirs == 0
    assert (grad == 0).all()
    ours = GeneralizedDiceLoss()(x, y)
    (grad,) = torch.autograd.grad(ours, x)
    assert ours > 0.99
    assert (grad[:, 1] > 0).all()


def test_generalised_dice_of_a_large_structure_is_no_less():
    """MONAI's constant is as large as 1 / volume: missing a structure of 10^6 voxels altogether costs 0.09."""
    y = torch.ones(1, 1, 100, 100, 100)
    x = torch.full_like(y, -30.0)
    assert MonaiGeneralizedDiceLoss(sigmoid=True)(x, y) < 0.1
    assert GeneralizedDiceLoss(sigmoid=True)(x, y) > 0.999


def test_a_class_that_a_case_does_not_hold_counts_as_its_smallest():
    y = torch.tensor([1, 1, 1, 0, 0]).view(1, 1, -1, 1, 1)
    found = torch.tensor([1, 1, 1, 2, 0])
    x = (60.0 * (found == torch.arange(3)[:, None])).view(1, 3, -1, 1, 1)
    assert GeneralizedDiceLoss()(x, y).item() == pytest.approx(1 - 6 / 7, abs=1e-5)


def test_options_that_make_no_loss_are_refused():
    with pytest.raises(ValueError, match="alpha and beta at least 0, gamma and smooth above 0"):
        FocalTverskyLoss(gamma=0)
