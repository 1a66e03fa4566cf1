"""The batched products, the way of GPUs, on the CPU: equal to the compiled kernel in both directions."""

from __future__ import annotations

import pytest
import torch

from medseg.networks import roi_align_batched as batched
from medseg.networks.roi_align import roi_align_3d
from medseg.networks.roi_align_samples import sample_axis

SHAPE, BINS = (18, 9, 40), (2, 3, 4)


def case(rois, ratio, dtype=torch.float64):
    generator = torch.Generator().manual_seed(rois)
    features = torch.randn(2, 3, *SHAPE, generator=generator, dtype=dtype)
    low = torch.rand(rois, 3, generator=generator, dtype=dtype) * torch.tensor([16, 8, 36]) - 2
    size = torch.rand(rois, 3, generator=generator, dtype=dtype) ** 3 * torch.tensor([20, 12, 60])
    boxes = torch.cat([(torch.arange(rois) % 2)[:, None], low, low + size], 1)
    boxes[1::7, 4] = torch.nan
    boxes[2::7, 1:4] += 50  # outside
    axes = [sample_axis(boxes[:, 1 + a], boxes[:, 4 + a], 1.0, SHAPE[a], BINS[a], ratio or None) for a in range(3)]
    return features, boxes, axes


def pooled(features, boxes, axes):
    last = features.permute(0, 2, 3, 4, 1).contiguous()
    return batched.pool(last, boxes[:, 0].long(), axes).permute(0, 4, 1, 2, 3)


@pytest.mark.parametrize("chunk", [None, 2000])
@pytest.mark.parametrize("ratio", [1, 2, 0])
def test_equals_the_kernel_forward_and_backward(ratio, chunk, monkeypatch):
    if chunk:
        monkeypatch.setattr(batched, "CHUNK", chunk)
    features, boxes, axes = case(60, ratio)
    features.requires_grad_()
    want = roi_align_3d(features, boxes, BINS, 1.0, ratio, "separable")
    torch.testing.assert_close(pooled(features.detach(), boxes, axes), want, rtol=0, atol=1e-12)
    upstream = torch.randn(want.shape, dtype=want.dtype)
    (expected,) = torch.autograd.grad(want, features, upstream)
    grad = torch.zeros(2, *SHAPE, 3, dtype=want.dtype)
    batched.spread(upstream.permute(0, 2, 3, 4, 1), boxes[:, 0].long(), axes, grad)
    torch.testing.assert_close(grad.permute(0, 4, 1, 2, 3), expected, rtol=0, atol=1e-12)


def test_like_boxes_share_their_products(monkeypatch):
    """Sixty RoIs of three sizes: three groups, so nine products."""
    calls = []
    product = torch.matmul
    monkeypatch.setattr(batched.torch, "matmul", lambda a, b: calls.append(a.shape) or product(a, b))
    features, boxes, _ = case(60, 2)
    boxes[:, 1:4] = torch.tensor([2.2, 1.2, 3.2])
    boxes[:, 4:] = boxes[:, 1:4] + torch.tensor([[3.0], [5.0], [9.0]]).repeat(20, 3)
    axes = [sample_axis(boxes[:, 1 + a], boxes[:, 4 + a], 1.0, SHAPE[a], BINS[a], 2) for a in range(3)]
    out = pooled(features, boxes, axes)
    torch.testing.assert_close(out, roi_align_3d(features, boxes, BINS, 1.0, 2), rtol=0, atol=1e-12)
    assert 2 <= len(calls) <= 6


def test_a_value_that_no_sample_touches_does_not_come_in():
    """Sizes are rounded up with voxels of weight 0; were they any, NaN from elsewhere would spread."""
    features = torch.full((1, 2, *SHAPE), torch.nan, dtype=torch.float64)
    features[:, :, 3:8, 2:7, 10:15] = 1.0
    boxes = torch.tensor([[0, 4, 3, 11, 7, 6, 14.0], [0, 5, 4, 12, 6, 6, 13.0]], dtype=torch.float64)
    axes = [sample_axis(boxes[:, 1 + a], boxes[:, 4 + a], 1.0, SHAPE[a], BINS[a], 2) for a in range(3)]
    torch.testing.assert_close(pooled(features, boxes, axes), torch.ones(2, 2, *BINS, dtype=torch.float64))


def test_a_wide_roi_takes_only_the_voxels_it_touches():
    axis = sample_axis(torch.tensor([0.0]), torch.tensor([40.0]), 1.0, 40, 2, 1)
    order, count = batched._touched(axis)
    assert count.item() == 4
    assert order[0, :4].tolist() == [9, 10, 29, 30]  # samples at 9.5 and 29.5
    assert sorted(order[0].tolist()) == list(range(40))


def test_no_boxes():
    features, boxes, axes = case(0, 2)
    assert pooled(features, boxes, axes).shape == (0, 3, *BINS)
    grad = torch.zeros(2, *SHAPE, 3, dtype=torch.float64)
    batched.spread(torch.zeros(0, *BINS, 3), boxes[:, 0].long(), axes, grad)
    assert not grad.any()
