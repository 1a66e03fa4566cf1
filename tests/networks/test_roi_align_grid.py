"""The grid backend: a sample of one volume never reads another. (Its values: test_roi_align.py.)"""

from __future__ import annotations

import pytest
import torch

from medseg.networks.roi_align import roi_align_3d


@pytest.mark.parametrize("volume", [0, 1, 2])
def test_volumes_do_not_mix(volume):
    """Each box lies over the first and the last slice of its volume; the others hold other, huge values."""
    features = torch.full((3, 1, 4, 4, 4), 1e9)
    features[volume] = 1.0
    boxes = torch.tensor([[volume, -0.7, 0, 0, 1, 4, 4], [volume, 3, 0, 0, 4.7, 4, 4]])
    out = roi_align_3d(features, boxes.float(), 3, 1.0, 2, "grid")
    torch.testing.assert_close(out, roi_align_3d(features, boxes.float(), 3, 1.0, 2, "separable"))
    assert out.max() <= 1.0
