"""The soft skeleton against MONAI's, bit for bit, its gradient, and ties: compiled, and as on other devices."""

from __future__ import annotations

import pytest
import torch
from monai.losses.cldice import soft_skel
from torch.autograd import gradcheck

from medseg.losses import skeleton
from medseg.losses.skeleton import soft_skeleton

SHAPES = [(2, 2, 9, 7, 8), (1, 1, 1, 6, 5), (1, 3, 2, 1, 7), (1, 1, 1, 1, 1), (2, 1, 8, 9)]


@pytest.fixture(params=["compiled", "any device"], autouse=True)
def way(request, monkeypatch):
    if request.param == "any device":
        monkeypatch.setattr(skeleton, "compiled", lambda x: False)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("iterations", [0, 1, 3])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_values_and_gradients_are_monais(shape, iterations, kind):
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(shape, generator=rng, dtype=kind, requires_grad=True)
    found, expected = soft_skeleton(x, iterations), soft_skel(x, iterations)
    assert torch.equal(found, expected)
    weights = torch.rand(shape, generator=rng, dtype=kind)
    (ours,), (theirs,) = (torch.autograd.grad(y, x, weights) for y in (found, expected))
    torch.testing.assert_close(ours, theirs)


def test_values_are_monais_where_neighbours_tie():
    x = (torch.rand(2, 2, 12, 11, 10, generator=torch.Generator().manual_seed(0)) > 0.4).float()
    assert torch.equal(soft_skeleton(x, 3), soft_skel(x, 3))


def test_a_row_by_hand():
    """1 5 2 4: eroded 1 1 2 2, opened 1 2 2 2; the rest of 1 5 2 4 over 1 2 2 2 is 0 3 0 2."""
    x = torch.tensor([1.0, 5, 2, 4]).view(1, 1, 1, 1, 4)
    assert soft_skeleton(x, 0).flatten().tolist() == [0, 3, 0, 2]


def test_the_gradient_of_ties_is_shared_out_once():
    """Raising a flat image as a whole raises no skeleton: the gradient sums to 0, as a slope along ones does."""
    x = torch.full((1, 1, 6, 6, 6), 0.5, requires_grad=True)
    (grad,) = torch.autograd.grad(soft_skeleton(x, 2).sum(), x)
    assert grad.abs().max() == 0
    rows = torch.rand(1, 1, 6, 1, 1, dtype=torch.float64).expand(1, 1, 6, 6, 6).clone().requires_grad_()
    weights = torch.rand(rows.shape, dtype=torch.float64)
    (ours,) = torch.autograd.grad(soft_skeleton(rows, 2), rows, weights)
    (theirs,) = torch.autograd.grad(soft_skel(rows, 2), rows, weights)
    # Along a tied row the share of each may differ, their sum may not.
    torch.testing.assert_close(ours.sum((3, 4)), theirs.sum((3, 4)))


def test_gradcheck():
    x = torch.rand(1, 2, 4, 3, 4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda y: soft_skeleton(y, 2), (x,))


def test_a_tube_becomes_its_centre_line():
    tube = torch.zeros(1, 1, 9, 9, 20)
    tube[..., 2:7, 2:7, :] = 1
    found = soft_skeleton(tube, 3)[0, 0, :, :, 10]
    assert found[4, 4] == 1
    assert found.sum() <= 1 + 4 * 2 * 2  # the corners of a square tube have ridges to its middle
