"""What a box says about a mask: closed forms, a loop as oracle, and that descent fills the box."""

from __future__ import annotations

import pytest
import torch

from medseg.losses.projection import profiles, projection_loss


def box(shape=(6, 6, 6), low=(1, 1, 1), high=(5, 4, 6)) -> torch.Tensor:
    out = torch.zeros(1, *shape)
    out[0, low[0] : high[0], low[1] : high[1], low[2] : high[2]] = 1
    return out


def test_profiles_are_the_largest_values_of_planes():
    torch.manual_seed(0)
    masks = torch.rand(2, 3, 4, 5)
    d, h, w = profiles(masks)
    for r in range(2):
        assert d[r].tolist() == [masks[r, i].max() for i in range(3)]
        assert h[r].tolist() == [masks[r, :, j].max() for j in range(4)]
        assert w[r].tolist() == [masks[r, :, :, k].max() for k in range(5)]


def test_of_large_planes_a_share_counts_so_that_no_single_cell_is_taught():
    torch.manual_seed(0)
    masks = torch.rand(1, 20, 10, 30, requires_grad=True)
    d, h, w = profiles(masks)
    assert d[0, 3].item() == pytest.approx(masks[0, 3].flatten().sort().values[-6:].mean().item())
    assert h[0, 3].item() == pytest.approx(masks[0, :, 3].flatten().sort().values[-12:].mean().item())
    assert w[0, 3].item() == pytest.approx(masks[0, :, :, 3].flatten().sort().values[-4:].mean().item())
    (grad,) = torch.autograd.grad(h.sum(), masks)
    assert (grad[0] > 0).sum(dim=(0, 2)).tolist() == [12] * 10


def test_by_hand():
    extents = box()
    full = torch.where(extents > 0, 60.0, -60.0)
    assert projection_loss(full, extents).item() == pytest.approx(0, abs=1e-6)
    # A diagonal line through the box reaches every side as the full box does.
    line = torch.full((1, 4, 4, 4), -60.0)
    line[0, range(4), range(4), range(4)] = 60.0
    assert projection_loss(line, torch.ones(1, 4, 4, 4)).item() == pytest.approx(0, abs=1e-6)
    # Nothing at all: no profile agrees, and nothing outside is wrong.
    assert projection_loss(torch.full_like(extents, -60.0), extents).item() == pytest.approx(1, abs=1e-4)
    # 1/2 everywhere: Dice of the profiles is 2 x 1/2 / (1/4 + 1) = 4/5; log 2 a voxel outside.
    outside = (1 - extents).mean().item() * torch.tensor(2.0).log().item()
    assert projection_loss(torch.zeros_like(extents), extents).item() == pytest.approx(0.2 + outside, abs=1e-5)


def test_instances_are_apart_and_extreme_logits_are_finite():
    torch.manual_seed(0)
    logits, extents = torch.randn(3, 6, 6, 6), torch.cat([box(), box(high=(2, 2, 2)), torch.ones(1, 6, 6, 6)])
    each = torch.cat([projection_loss(logits[i : i + 1], extents[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(projection_loss(logits, extents), each)
    wild = (1e4 * torch.randn(1, 6, 6, 6)).requires_grad_()
    loss = projection_loss(wild, box()).sum()
    loss.backward()
    assert loss.isfinite()
    assert wild.grad.isfinite().all()
    assert projection_loss(torch.zeros(0, 6, 6, 6), torch.zeros(0, 6, 6, 6)).shape == (0,)
    assert projection_loss(torch.zeros(1, 6, 6, 6), torch.zeros(1, 6, 6, 6)).isfinite().all()  # no extent here


def test_descent_reaches_the_sides_and_leaves_the_outside():
    torch.manual_seed(0)
    logits, extents = torch.randn(1, 6, 6, 6, requires_grad=True), box()
    optimizer = torch.optim.Adam([logits], 0.2)
    for _ in range(100):
        optimizer.zero_grad()
        projection_loss(logits, extents).sum().backward()
        optimizer.step()
    mask = logits.detach() > 0
    assert not mask[extents == 0].any()
    assert all(torch.equal(a, b) for a, b in zip(profiles(mask.float()), profiles(extents), strict=True))
