"""Mixed precision: float32 out, gradients flow, agreement with full precision."""

from __future__ import annotations

import torch

from medseg.networks import UNet
from medseg.training import MixedPrecisionInferer


def test_outputs_are_float32_and_close_to_full_precision():
    torch.manual_seed(0)
    net = UNet(1, 3, (8, 16, 32), deep_supervision=1)
    x = torch.randn(1, 1, 16, 16, 16)
    mixed, full = MixedPrecisionInferer()(x, net), net(x)
    assert [o.dtype for o in mixed] == [torch.float32] * 2
    for a, b in zip(mixed, full, strict=True):
        assert (a - b).norm() < 0.05 * b.norm()
    mixed[0].sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in net.encoder.parameters())
