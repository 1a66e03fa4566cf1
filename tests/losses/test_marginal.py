"""Partial labels: the merged softmax by hand, and that classes nobody labelled cost nothing and learn nothing wrong."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck

from medseg.losses import (
    BoundaryLoss,
    ClDiceLoss,
    CompoundLoss,
    CrossEntropyLoss,
    FocalLoss,
    FocalTverskyLoss,
    GeneralizedDiceLoss,
    LovaszLoss,
    MarginalLoss,
)
from medseg.losses.marginal import BITS, labelled_classes

LOSSES = {
    "cross-entropy": CrossEntropyLoss,
    "focal": FocalLoss,
    "tversky": FocalTverskyLoss,
    "generalised dice": GeneralizedDiceLoss,
    "lovasz": LovaszLoss,
    "cldice": ClDiceLoss,
    "boundary": BoundaryLoss,
    "compound": lambda **k: CompoundLoss([FocalTverskyLoss(**k), CrossEntropyLoss(0.1, **k), BoundaryLoss(**k)]),
}
every = pytest.mark.parametrize("name", LOSSES)


def flags(sets, channels, shape) -> torch.Tensor:
    rows = torch.zeros(len(sets), -(-(channels - 1) // BITS))
    for row, classes in zip(rows, sets, strict=True):
        for c in classes:
            row[(c - 1) // BITS] += 2 ** ((c - 1) % BITS)
    return rows.view(*rows.shape, 1, 1, 1).expand(-1, -1, *shape)


def batch(cases=2, channels=4, dtype=torch.float32):
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(cases, channels, 4, 5, 3, generator=rng, dtype=dtype).requires_grad_()
    y = torch.randint(0, channels, (cases, 1, 4, 5, 3), generator=rng).to(dtype)
    return x, y, torch.randn(cases, channels - 1, 4, 5, 3, generator=rng, dtype=dtype)


def target(y, maps, sets, loss):
    parts = [y, maps] if loss.takes_maps else [y]
    return torch.cat([*parts, flags(sets, maps.shape[1] + 1, y.shape[2:]).to(y.dtype)], 1)


def test_by_hand():
    """Probabilities 1/2, 1/4, 1/4 of background, liver, spleen; only the liver was labelled, and is not here."""
    x = torch.tensor([math.log(2.0), 0, 0]).view(1, 3, 1, 1, 1)
    y = torch.zeros(1, 1, 1, 1, 1)
    seen = torch.cat([y, torch.ones_like(y)], 1)
    assert MarginalLoss(CrossEntropyLoss())(x, seen).item() == pytest.approx(-math.log(3 / 4))
    every = torch.cat([y, torch.full_like(y, 3)], 1)
    assert MarginalLoss(CrossEntropyLoss())(x, every).item() == pytest.approx(-math.log(1 / 2))


@every
def test_a_case_labelled_in_full_is_as_without(name):
    x, y, maps = batch()
    loss = LOSSES[name]()
    plain = torch.cat([y, maps], 1) if loss.takes_maps else y
    torch.testing.assert_close(MarginalLoss(loss)(x, target(y, maps, [(1, 2, 3)] * 2, loss)), loss(x, plain))


@every
def test_merged_classes_are_the_loss_of_merged_probabilities(name):
    x, y, maps = batch(1)
    loss = LOSSES[name]()
    y = torch.where((y == 1) | (y == 3), 0, y)  # only class 2 was looked for
    probs = x.softmax(1)
    two = torch.stack([1 - probs[:, 2], probs[:, 2]], 1).log()
    plain = torch.cat([(y == 2).float(), maps[:, 1:2]], 1) if loss.takes_maps else (y == 2).float()
    torch.testing.assert_close(MarginalLoss(loss)(x, target(y, maps, [(2,)], loss)), loss(two, plain))
    # What the network says between background and unlabelled classes makes no difference.
    other = x.detach().clone()
    rest = [0, 1, 3]
    total = other[:, rest].logsumexp(1, keepdim=True)
    other[:, rest] = torch.randn(1, 3, 4, 5, 3).log_softmax(1) + total
    torch.testing.assert_close(
        MarginalLoss(loss)(other, target(y, maps, [(2,)], loss)), MarginalLoss(loss)(x, target(y, maps, [(2,)], loss))
    )


@every
def test_cases_labelled_in_different_ways_share_a_batch(name):
    x, y, maps = batch(4)
    loss = LOSSES[name]()
    sets = [(1, 2, 3), (2,), (), (2,)]
    y[1] = torch.where(y[1] == 2, 2, 0)
    y[2] = 0
    y[3] = torch.where(y[3] == 2, 2, 0)
    marginal = MarginalLoss(loss)
    full = target(y, maps, sets, loss)
    each = [marginal(x[i : i + 1], full[i : i + 1]) for i in range(4)]
    total = marginal(x, full)
    torch.testing.assert_close(total, sum(each) / 4)
    assert each[2] == 0
    (grad,) = torch.autograd.grad(total, x)
    assert (grad[2] == 0).all()
    assert (grad[1, 2] != 0).any()
    if name == "cross-entropy":  # the gradient pushes background and unlabelled classes alike, by their shares
        shares = grad[1, [0, 1, 3]] / x[1].softmax(0)[[0, 1, 3]]
        torch.testing.assert_close(shares, shares.mean(0, keepdim=True).expand(3, -1, -1, -1))


def test_the_slope_and_soft_and_unknown_labels():
    x, y, maps = batch(dtype=torch.float64)
    loss = MarginalLoss(LOSSES["compound"](ignore_index=255))
    y = torch.where(torch.rand(y.shape) < 0.2, 255.0, torch.where(y == 1, 0, y))
    both = target(y, maps, [(2, 3), (1, 2, 3)], loss)
    assert gradcheck(loss, (x[:, :, :2, :2], both[:, :, :2, :2]))
    (grad,) = torch.autograd.grad(loss(x, both), x)
    assert (grad * (y == 255) == 0).all()
    channels = (y == torch.arange(4).view(1, 4, 1, 1, 1)).double()
    marked = torch.where(y == 255, 255.0, channels)
    torch.testing.assert_close(loss(x, target(marked, maps, [(2, 3), (1, 2, 3)], loss)), loss(x, both))
    torch.testing.assert_close(loss(x, target(channels, maps, [(2, 3), (1, 2, 3)], loss)), loss(x, both))
    # Soft: what annotators gave to classes nobody was asked for is background.
    soft = torch.rand(2, 4, 4, 5, 3, dtype=torch.float64).softmax(1)
    entropy = MarginalLoss(CrossEntropyLoss())
    merged = torch.stack([soft[:, 0] + soft[:, 1] + soft[:, 3], torch.zeros_like(soft[:, 0]), soft[:, 2]], 1)
    as_merged = torch.cat([merged, torch.zeros_like(merged[:, :1])], 1)
    torch.testing.assert_close(
        entropy(x, target(soft, maps, [(2,), (2,)], entropy)),
        entropy(x, target(as_merged, maps, [(2,), (2,)], entropy)),
    )


def test_class_weights_are_those_of_the_labelled_classes():
    x, y, maps = batch(1)
    y = torch.where(y == 1, 0, y)
    loss = FocalTverskyLoss(weight=[1, 7, 1, 3])
    found = MarginalLoss(loss)(x, target(y, maps, [(2, 3)], loss))
    probs = x.softmax(1)
    three = torch.stack([probs[:, 0] + probs[:, 1], probs[:, 2], probs[:, 3]], 1).log()
    expected = FocalTverskyLoss(weight=[1, 1, 3])(three, (y - 1).clamp(min=0))
    torch.testing.assert_close(found, expected)


def test_many_classes_take_several_flag_channels():
    sets = [tuple(range(1, 30)), (1, 11, 12, 22, 23, 29), ()]
    found = labelled_classes(flags(sets, 30, (2, 2, 2)).half(), 30)
    assert found == [(0, *s) for s in sets]


def test_what_cannot_be_merged_is_refused():
    with pytest.raises(ValueError, match="mark regions that were not labelled by ignore_index instead"):
        MarginalLoss(CrossEntropyLoss(sigmoid=True))
    with pytest.raises(ValueError, match="are of the foreground"):
        MarginalLoss(BoundaryLoss(include_background=True))
    with pytest.raises(ValueError, match="one of medseg's softmax losses"):
        MarginalLoss(torch.nn.CrossEntropyLoss())
    x, y, maps = batch()
    loss = MarginalLoss(CrossEntropyLoss(ignore_index=2))
    with pytest.raises(ValueError, match="ignore_index 2 is one of the 4 classes"):
        loss(x, target(y, maps, [(1,), (1,)], loss))
    with pytest.raises(ValueError, match="labels from 0 to 9 for 2 channels"):
        MarginalLoss(CrossEntropyLoss())(x, target(torch.where(y == 1, 9, y), maps, [(2,), (2,)], loss))
