from __future__ import annotations

import pytest
import torch
from monai.transforms import ScaleIntensityFixedMean

from medseg.transforms.intensity import Contrast, adjust_contrast


@pytest.mark.parametrize("factor", [0.75, 1.0, 1.25])
def test_contrast_is_monais(factor):
    image = torch.randn(6, 7, 8) * 3 + 2
    monai = ScaleIntensityFixedMean(factor - 1, preserve_range=True, fixed_mean=True)(image[None])[0]
    found = adjust_contrast(image, Contrast(factor))
    torch.testing.assert_close(found, monai.as_tensor(), atol=1e-5, rtol=0)


def test_by_hand():
    found = adjust_contrast(torch.tensor([0.0, 1, 2, 5]).reshape(4, 1, 1), Contrast(0.5))  # mean 2
    assert found.flatten().tolist() == [1.0, 1.5, 2.0, 3.5]
    found = adjust_contrast(torch.tensor([0.0, 1, 2, 5]).reshape(4, 1, 1), Contrast(2.0))
    assert found.flatten().tolist() == [0.0, 0.0, 2.0, 5.0]  # clipped to what there was
