"""Ignored voxels count in no metric: the same score as if they were not there."""

from __future__ import annotations

import torch
from monai.metrics.meandice import DiceMetric
from monai.transforms import AsDiscreted, Compose

from medseg.transforms import IgnoreVoxelsd, RegionsFromLabeld


def test_dice_is_that_of_the_known_half():
    torch.manual_seed(0)
    pred, label = torch.randn(3, 8, 8, 8), torch.randint(0, 3, (1, 8, 8, 8)).float()
    half = label.clone()
    half[:, 4:] = 3
    ending = AsDiscreted(("pred", "label"), argmax=(True, False), to_onehot=3)
    masked = Compose([IgnoreVoxelsd(ignore=3), ending])({"pred": pred, "label": half})
    known = ending({"pred": pred[:, :4], "label": label[:, :4]})
    dice = [DiceMetric(include_background=False)([one["pred"]], [one["label"]]) for one in (masked, known)]
    assert torch.allclose(*dice)
    assert (half[:, 4:] == 3).all()  # what came in stays


def test_regions_of_ignored_voxels_are_empty():
    torch.manual_seed(0)
    pred, label = torch.randn(2, 4, 4, 4), torch.randint(1, 3, (1, 4, 4, 4))
    label[:, :2] = 9
    ending = [AsDiscreted("pred", threshold=0.0), RegionsFromLabeld("label", [[1, 2], [2]])]
    out = Compose([IgnoreVoxelsd(ignore=9, sigmoid=True), *ending])({"pred": pred, "label": label})
    assert not out["pred"][:, :2].any()
    assert not out["label"][:, :2].any()
    assert torch.equal(out["pred"][:, 2:].bool(), pred[:, 2:] >= 0)
