"""Mixed precision: float32 out, gradients flow, agreement with full precision."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medseg.inferers.precision import has_native_bf16
from medseg.networks import UNet
from medseg.training import MixedPrecisionInferer
from medseg.training.recompute import recompute_blocks


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


@pytest.mark.parametrize("planes", [1, 2, 3])
@pytest.mark.parametrize("again", [False, True], ids=["kept", "recomputed"])
def test_gradients_over_thin_maps_are_those_of_full_precision_each_time(planes, again):
    """torch 2.13's own are other numbers at each call where there are one or two planes."""
    torch.manual_seed(0)
    net = UNet(1, 2, (8, 16), strides=[1, (1, 2, 2)])
    if again:
        recompute_blocks(net)
    x = torch.randn(2, 1, planes, 8, 8)

    def gradients(call):
        net.zero_grad()
        for n in range(20):  # memory that is given back full of NaN
            torch.full((3000 * n + 7,), float("nan"))
        call().square().sum().backward()
        return torch.cat([p.grad.flatten() for p in net.parameters()])

    full = gradients(lambda: net(x))
    inferer = MixedPrecisionInferer()
    mixed = [gradients(lambda: inferer(x, net)) for _ in range(5)]
    assert (mixed[0] - full).norm() < 0.2 * full.norm()
    assert all(torch.equal(one, mixed[0]) for one in mixed)


@pytest.mark.skipif(not has_native_bf16(torch.device("cpu")), reason="autocast is off (a CPU without bfloat16)")
def test_only_convolutions_over_thin_maps_are_in_float32_and_autocast_comes_back():
    net = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.Conv3d(2, 2, (2, 1, 1)), nn.ConvTranspose3d(2, 2, 3))
    found = []
    for layer in net:
        layer.register_forward_hook(lambda _, args, out: found.append((args[0].dtype, out.dtype)))
    inferer = MixedPrecisionInferer()
    inferer(torch.randn(1, 1, 2, 4, 4), net)
    assert [out for _, out in found] == [torch.float32, torch.float32, torch.bfloat16]
    found.clear()
    inferer(torch.randn(1, 1, 4, 4, 4), net)
    assert [out for _, out in found] == [torch.bfloat16] * 3
    assert not torch.is_autocast_enabled("cpu")
    with pytest.raises(RuntimeError), torch.autocast("cpu", torch.bfloat16):
        net(torch.randn(1, 5, 2, 4, 4))  # of five channels
    assert not torch.is_autocast_enabled("cpu")
