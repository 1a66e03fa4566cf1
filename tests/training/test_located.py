"""Overviews travel beside patches, and the joint loss is the sum of both."""

from __future__ import annotations

import torch
from monai.data import MetaTensor
from monai.losses import DeepSupervisionLoss, DiceCELoss

from medseg.networks import LocatedUNet
from medseg.training import LocatedBatch, LocatedLoss, Targets
from medseg.training.precision import MixedPrecisionInferer


def batch() -> dict:
    return {
        "image": torch.randn(2, 1, 8, 8, 8),
        "label": torch.randint(0, 2, (2, 1, 8, 8, 8)).float(),
        "overview": MetaTensor(torch.randn(2, 1, 8, 8, 8)),
        "whereabouts": MetaTensor(torch.randint(0, 2, (2, 1, 8, 8, 8)).float()),
    }


def test_the_batch_is_taken_apart_for_network_and_loss():
    made = batch()
    images, (targets, whereabouts), args, more = LocatedBatch()(made, "cpu")
    assert images is made["image"]
    assert targets is made["label"]
    assert args == ()
    assert torch.equal(whereabouts, made["whereabouts"].as_tensor())
    assert torch.equal(more["overview"], made["overview"].as_tensor())
    assert not isinstance(more["overview"], MetaTensor)


def test_teachers_stand_behind_the_label_as_without_a_locator():
    made = batch()
    told = LocatedBatch(Targets(teacher=lambda images: torch.cat([images, images], 1)))(made, "cpu")[1][0]
    assert told.shape == (2, 3, 8, 8, 8)
    assert torch.equal(told[:, :1], made["label"])


def test_the_loss_is_the_sum_and_each_part_learns_from_its_own():
    torch.manual_seed(0)
    locator = {"factors": [2, 2, 2], "window": [8, 8, 8], "features": [4, 8]}
    network = LocatedUNet(1, 2, locator, features=(4, 8, 12), deep_supervision=1).train()
    images, targets, args, more = LocatedBatch()(batch(), "cpu")
    output = MixedPrecisionInferer()(images, network, *args, **more)
    fine = DeepSupervisionLoss(DiceCELoss(to_onehot_y=True, softmax=True))
    coarse = DiceCELoss(sigmoid=True)
    total = LocatedLoss(fine, coarse, weight=0.5)(output, targets)
    (found, cells), (label, whereabouts) = output, targets
    torch.testing.assert_close(total, fine(found, label) + 0.5 * coarse(cells, whereabouts))
    torch.autograd.backward(coarse(cells, whereabouts))
    touched = {name for name, weight in network.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert touched
    assert all(name.startswith("locator.") for name in touched)
