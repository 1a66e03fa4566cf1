"""The Lovasz losses: the Jaccard loss on hard predictions, convexity's closed form between, and the paper's loop."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.losses import LovaszLoss
from medseg.losses.lovasz import jaccard_steps


def jaccard_loss(pred: torch.Tensor, true: torch.Tensor) -> float:
    union = (pred | true).sum().item()
    return 1 - (pred & true).sum().item() / union if union else 0.0


def by_definition(errors: torch.Tensor, true: torch.Tensor) -> float:
    """sum of e_i (D({1..i}) - D({1..i-1})), D the Jaccard loss if exactly these voxels are wrong."""
    order = errors.argsort(descending=True)
    wrong = torch.zeros_like(true)
    total, before = 0.0, 0.0
    for i in order:
        wrong[i] = True
        now = jaccard_loss(true ^ wrong, true)
        total += errors[i].item() * (now - before)
        before = now
    return total


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 12), st.integers(0, 999))
def test_it_is_the_extension_of_the_jaccard_loss(n, seed):
    rng = torch.Generator().manual_seed(seed)
    true = torch.rand(n, generator=rng) > 0.4
    true[0] = True
    probs = torch.rand(n, generator=rng)
    expected = by_definition((true.float() - probs).abs(), true)
    loss = LovaszLoss(sigmoid=True)
    found = loss(probs.logit().view(1, 1, n, 1, 1), true.float().view(1, 1, n, 1, 1))
    assert found.item() == pytest.approx(expected, abs=1e-5)
    hard = torch.where(probs > 0.5, 60.0, -60.0).view(1, 1, n, 1, 1)
    assert loss(hard, true.float().view(1, 1, n, 1, 1)).item() == pytest.approx(
        jaccard_loss(probs > 0.5, true), abs=1e-5
    )


def test_by_hand():
    """Errors 0.8 of a false positive, then 0.5 and 0.1 of the two true: steps 1/3, 1/3, 1/3."""
    true = torch.tensor([0.0, 1.0, 1.0])
    assert jaccard_steps(true).tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    probs = torch.tensor([0.8, 0.5, 0.9]).view(1, 1, 3, 1, 1)
    found = LovaszLoss(sigmoid=True)(probs.logit(), true.view(1, 1, 3, 1, 1))
    assert found.item() == pytest.approx((0.8 + 0.5 + 0.1) / 3)


def test_softmax_is_the_mean_over_the_classes_that_are_there():
    torch.manual_seed(0)
    x, y = torch.randn(1, 4, 3, 3, 3), torch.randint(0, 3, (1, 1, 3, 3, 3))
    probs = x.softmax(1)
    each = [by_definition(((y[0, 0] == c).float() - probs[0, c]).abs().flatten(), (y == c).flatten()) for c in (1, 2)]
    assert LovaszLoss()(x, y).item() == pytest.approx(sum(each) / 2, abs=1e-5)
    # A class that is not there counts, if asked for, by its largest error.
    expected = (sum(each) + probs[0, 3].max().item()) / 3
    assert LovaszLoss(absent=True)(x, y).item() == pytest.approx(expected, abs=1e-5)
    assert LovaszLoss(weight=[0, 3, 1, 5])(x, y).item() == pytest.approx((3 * each[0] + each[1]) / 4, abs=1e-5)


def test_the_batch_may_be_sorted_as_one_case():
    torch.manual_seed(0)
    x, y = torch.randn(2, 3, 3, 4, 2), torch.randint(0, 3, (2, 1, 3, 4, 2))
    joined = LovaszLoss()(torch.cat([x[:1], x[1:]], 2), torch.cat([y[:1], y[1:]], 2))
    torch.testing.assert_close(LovaszLoss(batch=True)(x, y), joined)


def test_soft_labels_are_met_at_no_cost():
    soft = torch.rand(1, 3, 4, 4, 4).softmax(1)
    assert LovaszLoss()(soft.log(), soft).item() == pytest.approx(0, abs=1e-6)
    assert LovaszLoss()(soft.log() + 0.3 * torch.randn_like(soft), soft) > 1e-3


def test_nothing_to_find_is_0_with_a_gradient():
    x = torch.zeros(1, 2, 2, 2, 2, requires_grad=True)
    loss = LovaszLoss()(x, torch.zeros(1, 1, 2, 2, 2))
    (grad,) = torch.autograd.grad(loss, x)
    assert loss == 0
    assert (grad == 0).all()
