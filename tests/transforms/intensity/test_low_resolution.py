from __future__ import annotations

import pytest
import torch
from monai.transforms import RandSimulateLowResolution

from medseg.transforms import RandLowResolutiond
from medseg.transforms.intensity import LowResolution, lower_resolution


@pytest.mark.parametrize("zoom", [0.5, 0.71, 1.0])
def test_low_resolution_is_monais(zoom):
    image = torch.rand(13, 12, 10)
    monai = RandSimulateLowResolution(
        prob=1.0, zoom_range=(zoom, zoom), downsample_mode="nearest-exact", align_corners=False
    )(image[None])[0]
    found = lower_resolution(image, LowResolution((zoom,) * 3))
    torch.testing.assert_close(found, monai.as_tensor(), atol=1e-5, rtol=0)


def test_by_hand():
    ramp = torch.arange(8.0).reshape(8, 1, 1)
    found = lower_resolution(ramp, LowResolution((0.5, 1, 1))).flatten()
    assert found.tolist() == [1, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7]  # voxels 1, 3, 5, 7, stretched


def test_axes_that_were_not_named_stay_sharp():
    draw = RandLowResolutiond("x", zoom=(0.5, 0.5), axes=[2]).draw()
    assert draw == LowResolution((1.0, 1.0, 0.5))
    assert RandLowResolutiond("x", zoom=(0.4, 0.4)).draw() == LowResolution((0.4,) * 3)
    image = torch.rand(6, 6, 6)
    found = lower_resolution(image, draw)
    assert not torch.equal(found, image)
    alone = lower_resolution(image[2:3, 3:4], draw)[0, 0]  # a line along the axis, without its neighbours
    torch.testing.assert_close(found[2, 3], alone, atol=1e-6, rtol=0)
