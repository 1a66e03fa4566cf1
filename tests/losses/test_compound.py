"""Sums of losses: the sum itself, who gets what, and MONAI's among them."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceLoss
from torch import nn

from medseg.losses import BoundaryLoss, CompoundLoss, CrossEntropyLoss, FocalTverskyLoss, HausdorffLoss
from medseg.losses.pair import Pair


def batch():
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 3, 4, 5, 3, generator=rng), torch.randint(0, 3, (2, 1, 4, 5, 3), generator=rng).float()
    return x, y, torch.randn(2, 2, 4, 5, 3, generator=rng)


def test_it_is_the_weighted_sum():
    x, y, maps = batch()
    full = torch.cat([y, maps], 1)
    loss = CompoundLoss([FocalTverskyLoss(), CrossEntropyLoss(), BoundaryLoss(), HausdorffLoss()], [2, 1, 0.5, 0.1])
    each = [FocalTverskyLoss()(x, y), CrossEntropyLoss()(x, y), BoundaryLoss()(x, full), HausdorffLoss()(x, full)]
    expected = 2 * each[0] + each[1] + 0.5 * each[2] + 0.1 * each[3]
    torch.testing.assert_close(loss(x, full), expected)
    assert loss.terms == pytest.approx([float(e) for e in each])
    torch.testing.assert_close(CompoundLoss([FocalTverskyLoss(), CrossEntropyLoss()])(x, y), each[0] + each[1])


def test_monais_losses_get_the_label_alone_in_float32():
    x, y, maps = batch()
    dice = DiceLoss(to_onehot_y=True, softmax=True, include_background=False)
    loss = CompoundLoss([dice, BoundaryLoss()])
    full = torch.cat([y, maps], 1)
    torch.testing.assert_close(loss(x, full), dice(x, y) + BoundaryLoss()(x, full))
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(x.bfloat16(), full)
    assert torch.equal(found, loss(x.bfloat16().float(), full))


def test_the_softmax_is_computed_once(monkeypatch):
    x, y, maps = batch()
    calls = []
    computed = Pair.probs.func
    monkeypatch.setattr(Pair.probs, "func", lambda self: calls.append(1) or computed(self))
    CompoundLoss([FocalTverskyLoss(), BoundaryLoss(), HausdorffLoss()])(x, torch.cat([y, maps], 1))
    assert len(calls) == 1


def test_parameters_and_devices_reach_the_members():
    class Learned(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x, y):
            return self.scale * (x.sum() * 0 + 3)

    x, y, _ = batch()
    loss = CompoundLoss([CrossEntropyLoss(), Learned()], [1, 2])
    assert [name for name, _ in loss.named_parameters()] == ["losses.1.scale"]
    torch.testing.assert_close(loss(x, y), CrossEntropyLoss()(x, y) + 6)


def test_members_that_disagree_are_named():
    with pytest.raises(ValueError, match=r"do not agree about sigmoid: \[False, True\]"):
        CompoundLoss([FocalTverskyLoss(), CrossEntropyLoss(sigmoid=True)])
    with pytest.raises(ValueError, match=r"do not agree about ignore_index: \[None, 255\]"):
        CompoundLoss([FocalTverskyLoss(), CrossEntropyLoss(ignore_index=255)])
    with pytest.raises(ValueError, match=r"do not agree about include_background: \[False, True\]"):
        CompoundLoss([BoundaryLoss(), HausdorffLoss(include_background=True)])
    CompoundLoss([FocalTverskyLoss(include_background=True), BoundaryLoss()])
    with pytest.raises(ValueError, match="a weight for each; got 2 and"):
        CompoundLoss([FocalTverskyLoss(), CrossEntropyLoss()], [1])
    with pytest.raises(ValueError, match="one of medseg's at least"):
        CompoundLoss([DiceLoss()])
