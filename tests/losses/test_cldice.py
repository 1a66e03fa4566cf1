"""clDice against MONAI's class by class, and what it sees that Dice does not."""

from __future__ import annotations

import pytest
import torch
from monai.losses import SoftclDiceLoss

from medseg.losses import ClDiceLoss


@pytest.mark.parametrize("iterations", [1, 3])
def test_of_one_class_it_is_monais(iterations):
    torch.manual_seed(0)
    x, y = torch.randn(2, 1, 9, 10, 8), (torch.rand(2, 1, 9, 10, 8) > 0.5).float()
    theirs = SoftclDiceLoss(iterations, sigmoid=True, smooth=1e-12)
    torch.testing.assert_close(ClDiceLoss(iterations, sigmoid=True)(x, y), theirs(x, y))


def test_each_class_counts_by_itself():
    torch.manual_seed(0)
    x, y = torch.randn(2, 3, 9, 10, 8), torch.randint(0, 3, (2, 1, 9, 10, 8))
    probs = x.softmax(1)
    theirs = SoftclDiceLoss(smooth=1e-12)
    each = [theirs(probs[:, c : c + 1], (y == c).float()) for c in (1, 2)]
    torch.testing.assert_close(ClDiceLoss()(x, y), torch.stack(each).mean())
    torch.testing.assert_close(ClDiceLoss(weight=[0, 1, 3])(x, y), (each[0] + 3 * each[1]) / 4)


def test_perfect_is_0_and_a_gap_costs():
    y = torch.zeros(1, 1, 9, 9, 40)
    y[..., 3:6, 3:6, :] = 1
    x = torch.where(y > 0, 40.0, -40.0)
    loss = ClDiceLoss(sigmoid=True)
    assert loss(x, y).item() == pytest.approx(0, abs=1e-6)
    gap, thin = x.clone(), torch.full_like(x, -40.0)
    gap[..., 18:22] = -40
    thin[..., 4, 4, :] = 40
    assert loss(thin, y).item() == pytest.approx(0, abs=1e-6)  # the centre line alone: nothing is torn
    assert loss(gap, y) > 0.03


def test_options_that_make_no_loss_are_refused():
    with pytest.raises(ValueError, match="iterations at least 0 and smooth above 0"):
        ClDiceLoss(-1)
