"""The boundary loss: by hand, MONAI's number where the definitions touch, and that descent fills a structure."""

from __future__ import annotations

import pytest
import torch
from monai.losses import BoundaryLoss as MonaiBoundaryLoss
from scipy.ndimage import distance_transform_edt

from medseg.losses import BoundaryLoss, CompoundLoss, FocalTverskyLoss


def signed(mask: torch.Tensor, spacing=(1, 1, 1)) -> torch.Tensor:
    """(B, 1, ...) -> signed distances by scipy; 0 where there is no surface."""
    out = torch.zeros(mask.shape)
    for b, m in enumerate(mask[:, 0].bool().numpy()):
        if m.any() and not m.all():
            inside, outside = (distance_transform_edt(side, sampling=spacing) for side in (m, ~m))
            out[b, 0] = torch.from_numpy(outside - inside)
    return out


def ball(n=10, r=3.0) -> torch.Tensor:
    g = torch.stack(torch.meshgrid(*[torch.arange(n) - (n - 1) / 2] * 3, indexing="ij"))
    return ((g**2).sum(0) <= r * r).float()[None, None]


def test_by_hand():
    """Distances 4 2 -2 -4 mm, probabilities 1/2 1/2 1/2 1: (2 + 1 - 1 - 4) / 4."""
    x = torch.tensor([0.0, 0, 0, 60]).view(1, 1, 4, 1, 1)
    target = torch.tensor([[0.0, 0, 1, 1], [4, 2, -2, -4]]).view(1, 2, 4, 1, 1)
    assert BoundaryLoss(sigmoid=True)(x, target).item() == pytest.approx(-0.5)
    # The third voxel unknown: (2 + 1 - 4) / 3.
    target[0, 0, 2] = 9
    assert BoundaryLoss(sigmoid=True, ignore_index=9)(x, target).item() == pytest.approx(-1 / 3)
    # Weighted mean over classes, each with its own map.
    two = torch.stack([torch.zeros(4), torch.full((4,), 60.0), torch.zeros(4)]).view(1, 3, 4, 1, 1)
    maps = torch.tensor([[4.0, 2, -2, -4], [1, 1, 1, 1]]).view(1, 2, 4, 1, 1)
    target = torch.cat([torch.tensor([0.0, 0, 1, 1]).view(1, 1, 4, 1, 1), maps], 1)
    assert BoundaryLoss(weight=[9, 3, 1])(two, target).item() == pytest.approx(0, abs=1e-6)
    target[:, 1] -= 4
    assert BoundaryLoss(weight=[9, 3, 1])(two, target).item() == pytest.approx(-3, abs=1e-5)


def test_on_voxels_of_1_mm_monais_is_larger_by_the_probability_inside():
    torch.manual_seed(0)
    x, y = torch.randn(2, 1, 8, 9, 7), (torch.rand(2, 1, 8, 9, 7) > 0.6).float()
    ours = BoundaryLoss(sigmoid=True)(x, torch.cat([y, signed(y)], 1))
    inside = (x.sigmoid() * y).mean()
    torch.testing.assert_close(ours + inside, MonaiBoundaryLoss(sigmoid=True)(x, y))


def test_the_outermost_layer_of_a_structure_is_learned():
    """MONAI's gradient is 0 there."""
    y = ball()
    layer = (signed(y) == -1).float()
    x = torch.zeros_like(y, requires_grad=True)
    (theirs,) = torch.autograd.grad(MonaiBoundaryLoss(sigmoid=True)(x, y), x)
    (ours,) = torch.autograd.grad(BoundaryLoss(sigmoid=True)(x, torch.cat([y, signed(y)], 1)), x)
    assert layer.sum() > 50
    assert (theirs * layer == 0).all()
    assert (ours[layer > 0] < 0).all()


def test_descent_ends_at_the_structure():
    y = ball()
    target = torch.cat([y, signed(y, (1, 1, 3))], 1)
    torch.manual_seed(0)
    x = torch.randn_like(y).requires_grad_()
    loss = CompoundLoss([FocalTverskyLoss(sigmoid=True), BoundaryLoss(sigmoid=True)], [1, 0.1])
    optimizer = torch.optim.Adam([x], 0.5)
    for _ in range(40):
        optimizer.zero_grad()
        loss(x, target).backward()
        optimizer.step()
    assert torch.equal(x.detach() > 0, y > 0)
