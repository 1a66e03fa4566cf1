"""The Hausdorff distance loss: by hand, MONAI's number on voxels of 1 mm, scipy's distances on others."""

from __future__ import annotations

import pytest
import torch
from monai.losses import HausdorffDTLoss
from scipy.ndimage import distance_transform_edt

from medseg.losses import HausdorffLoss
from medseg.losses.hausdorff import surface_distance_mm


def signed(mask: torch.Tensor, spacing=(1, 1, 1)) -> torch.Tensor:
    """(B, C, ...) -> signed distances by scipy; 0 where there is no surface."""
    out = torch.zeros(mask.shape)
    for b, each in enumerate(mask.bool().numpy()):
        for c, m in enumerate(each):
            if m.any() and not m.all():
                inside, outside = (distance_transform_edt(side, sampling=spacing) for side in (m, ~m))
                out[b, c] = torch.from_numpy(outside - inside)
    return out


def test_by_hand():
    """Distances 4 2 -2 -4 mm; a miss of 1/2 at 4 mm and of 1 at 2 mm."""
    x = torch.tensor([0.0, -60, -60, 60]).view(1, 1, 4, 1, 1)
    target = torch.tensor([[0.0, 0, 1, 1], [4, 2, -2, -4]]).view(1, 2, 4, 1, 1)
    assert HausdorffLoss(sigmoid=True)(x, target).item() == pytest.approx((0.25 * 16 + 4) / 4)
    assert HausdorffLoss(1, sigmoid=True)(x, target).item() == pytest.approx((0.25 * 4 + 2) / 4)
    # The prediction's own surface lies before the last voxel: distances 6 4 2 2 mm.
    both = HausdorffLoss(sigmoid=True, spacing_mm=(2, 1, 1))
    assert both(x, target).item() == pytest.approx((0.25 * (16 + 36) + (4 + 4)) / 4)


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_on_voxels_of_1_mm_it_is_monais(alpha):
    torch.manual_seed(0)
    x, y = 2 * torch.randn(2, 3, 8, 9, 7), torch.randint(0, 3, (2, 1, 8, 9, 7)).float()
    maps = signed(torch.cat([y == 1, y == 2], 1))
    theirs = HausdorffDTLoss(alpha, softmax=True, to_onehot_y=True)(x, y)
    torch.testing.assert_close(HausdorffLoss(alpha, (1, 1, 1))(x, torch.cat([y, maps], 1)), theirs)


def test_distances_are_scipys():
    torch.manual_seed(0)
    masks = torch.rand(2, 3, 7, 6, 9) > 0.7
    masks[1, 0], masks[1, 1] = False, True  # no surface: no distance
    spacing = (0.7, 1.3, 3.0)
    found = surface_distance_mm(masks, spacing)
    torch.testing.assert_close(found, signed(masks, spacing).abs())
    assert found[1, :2].abs().max() == 0
    turned = surface_distance_mm(masks.permute(0, 1, 4, 2, 3), (3.0, 0.7, 1.3))
    torch.testing.assert_close(turned, found.permute(0, 1, 4, 2, 3))


def test_what_is_far_counts_more():
    y = torch.zeros(1, 1, 20, 3, 3)
    y[:, :, :5] = 1
    target = torch.cat([y, signed(y, (2, 1, 1))], 1)
    losses = []
    for where in (6, 10, 18):
        x = torch.where(y > 0, 60.0, -60.0)
        x[:, :, where] = 60
        losses.append(HausdorffLoss(sigmoid=True)(x, target).item())
    assert losses == pytest.approx([(2 * (w - 4)) ** 2 / 20 for w in (6, 10, 18)])


def test_options_that_make_no_loss_are_refused():
    with pytest.raises(ValueError, match="alpha and spacing_mm lie above 0"):
        HausdorffLoss(spacing_mm=(1, 1, 0))
    with pytest.raises(ValueError, match="spacing_mm has 2 numbers for 3 axes"):
        HausdorffLoss(spacing_mm=(1, 1), sigmoid=True)(torch.zeros(1, 1, 2, 2, 2), torch.zeros(1, 2, 2, 2, 2))
