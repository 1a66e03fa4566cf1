"""A loss of regions, given a label map."""

from __future__ import annotations

import torch
from monai.losses import DeepSupervisionLoss

from medseg.losses import CrossEntropyLoss
from medseg.training import RegionLoss

REGIONS = [[1, 2], [2]]


def test_it_is_the_loss_of_the_region_channels():
    label = torch.randint(0, 3, (2, 1, 4, 4, 4)).float()
    logits = torch.randn(2, 2, 4, 4, 4, requires_grad=True)
    regions = torch.cat([(label >= 1).float(), (label == 2).float()], 1)
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(logits, regions)
    found = RegionLoss(CrossEntropyLoss(sigmoid=True), REGIONS)(logits, label)
    assert torch.allclose(found, wanted, atol=1e-6)
    found.backward()
    assert logits.grad.abs().max() > 0


def test_deep_supervision_thins_the_label_map_out():
    label = torch.randint(0, 3, (1, 1, 8, 8, 8)).float()
    outputs = [torch.randn(1, 2, 8, 8, 8), torch.randn(1, 2, 4, 4, 4)]
    loss = RegionLoss(CrossEntropyLoss(sigmoid=True), REGIONS)
    coarse = torch.nn.functional.interpolate(label, size=(4, 4, 4), mode="nearest-exact")
    wanted = loss(outputs[0], label) + 0.5 * loss(outputs[1], coarse)
    assert torch.allclose(DeepSupervisionLoss(loss)(outputs, label), wanted, atol=1e-6)


def test_ignored_voxels_have_neither_loss_nor_gradient():
    label = torch.randint(0, 3, (1, 1, 4, 4, 4)).float()
    logits = torch.randn(1, 2, 4, 4, 4, requires_grad=True)
    wanted = RegionLoss(CrossEntropyLoss(sigmoid=True), REGIONS)(logits[:, :, :2], label[:, :, :2])
    label[:, :, 2:] = 7
    found = RegionLoss(CrossEntropyLoss(sigmoid=True, ignore_index=-1), REGIONS, ignore=7)(logits, label)
    assert torch.allclose(found, wanted, atol=1e-6)
    found.backward()
    assert not logits.grad[:, :, 2:].any()
    assert logits.grad[:, :, :2].abs().max() > 0
