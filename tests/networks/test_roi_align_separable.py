"""The separable backend's autograd: one gradient, any memory order, chunks, no second derivative in silence."""

from __future__ import annotations

import pytest
import torch

from medseg.networks import roi_align_separable as separable
from medseg.networks.roi_align import roi_align_3d

BOXES = torch.tensor([[0, 0.5, 1, 1, 4, 4.5, 5], [1, -1, -1, 2, 3, 4, 9], [1, 1, 1, 1, 2, 2, 2], [0, 2, 2, 2, 5, 6, 7]])


def features(dtype=torch.float64):
    return torch.randn(2, 4, 5, 6, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def test_output_lies_channels_last():
    out = roi_align_3d(features(), BOXES, (2, 3, 4))
    assert out.is_contiguous(memory_format=torch.channels_last_3d)


def test_any_memory_order_of_features_and_gradient_gives_the_same():
    upstream = torch.randn(4, 4, 2, 3, 4, dtype=torch.float64)
    results = []
    for turn in (
        torch.Tensor.contiguous,
        lambda t: t.contiguous(memory_format=torch.channels_last_3d),
        lambda t: t.transpose(2, 4).contiguous().transpose(2, 4),
    ):
        x = turn(features()).requires_grad_()
        for boxes, g in ((BOXES, turn(upstream)), (BOXES[:3], turn(upstream[:3])), (BOXES[2:3], turn(upstream[2:3]))):
            out = roi_align_3d(x, boxes, (2, 3, 4))
            results.append((out, *torch.autograd.grad(out, x, g)))
    for k in range(3, 9):
        assert torch.equal(results[k][0], results[k % 3][0])
        assert torch.equal(results[k][1], results[k % 3][1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_chunks_change_nothing(dtype, monkeypatch):
    def both():
        x = features(dtype).requires_grad_()
        out = roi_align_3d(x, BOXES, (2, 3, 4))
        return out, *torch.autograd.grad(out, x, torch.ones(out.shape, dtype=dtype))

    whole = both()
    monkeypatch.setattr(separable, "CHUNK", 1)  # one RoI at a time
    for a, b in zip(both(), whole, strict=True):
        assert torch.equal(a, b)


def test_half_precision_sums_gradients_in_float32():
    """A thousand RoIs that each add 1/8 to a voxel: bfloat16 would stop at 32."""
    x = torch.zeros(1, 1, 2, 2, 2, dtype=torch.bfloat16, requires_grad=True)
    boxes = torch.tensor([[0.0, 0, 0, 0, 2, 2, 2]]).repeat(1000, 1)
    roi_align_3d(x, boxes, 1).sum().backward()
    assert x.grad.unique().tolist() == [125.0]


def test_an_expanded_gradient():
    x = features().requires_grad_()
    out = roi_align_3d(x, BOXES, 2)
    (summed,) = torch.autograd.grad(out.sum(), x, retain_graph=True)
    assert torch.equal(summed, *torch.autograd.grad(out, x, torch.ones(out.shape, dtype=torch.float64)))


def test_a_second_derivative_is_refused():
    x = features().requires_grad_()
    out = roi_align_3d(x, BOXES, 2)
    (grad,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_a_compiled_module_runs_it_between_graphs():
    class Head(torch.nn.Module):
        def forward(self, x, boxes):
            return 2 * roi_align_3d(x + 1, boxes, 2)

    x = features(torch.float32).requires_grad_()
    head = Head()
    plain = head(x, BOXES)
    compiled = torch.compile(head, backend="eager")(x, BOXES)
    torch.testing.assert_close(compiled, plain)
    torch.testing.assert_close(*(torch.autograd.grad(out.sum(), x)[0] for out in (compiled, plain)))
