"""Nested labels become channels, each inside the one before."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from medseg.transforms import RegionsFromLabeld
from medseg.transforms.regions import to_regions

REGIONS = [[1, 2, 3], [2, 3], [3]]


def test_channels_are_numpys_isin():
    label = torch.randint(0, 5, (1, 6, 7, 8))
    for dtype in (torch.uint8, torch.int64, torch.float32):
        channels = to_regions(label.to(dtype), REGIONS)
        assert channels.dtype == torch.float32
        for channel, parts in zip(channels.numpy(), REGIONS, strict=True):
            assert (channel == np.isin(label[0].numpy(), parts)).all()


def test_batches_have_their_channel_behind():
    label = torch.randint(0, 4, (2, 1, 5, 5, 5))
    assert torch.equal(to_regions(label, REGIONS, axis=1)[1], to_regions(label[1], REGIONS))


def test_a_metatensor_keeps_its_place():
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))
    label = MetaTensor(torch.ones(1, 4, 4, 4), affine=affine)
    out = RegionsFromLabeld("label", REGIONS)({"label": label, "image": 3})
    assert out["label"].shape == (3, 4, 4, 4)
    assert torch.equal(out["label"].affine, affine)
    assert out["image"] == 3


def test_channels_cannot_be_made_of_channels():
    with pytest.raises(ValueError, match="one label map, got 2 channels"):
        to_regions(torch.zeros(2, 4, 4, 4), REGIONS)
