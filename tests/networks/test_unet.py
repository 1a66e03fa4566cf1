"""The U-Net: shapes, anisotropy, deep supervision, named points of dropout."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg.networks import Encoder, UNet


def unet(**changes) -> UNet:
    torch.manual_seed(0)
    return UNet(**{"in_channels": 2, "out_channels": 3, "features": (4, 6, 8, 10), **changes}).eval()


@given(
    levels=st.integers(2, 4),
    strides=st.lists(st.sampled_from([1, 2, (1, 2, 2), (2, 1, 2)]), min_size=3, max_size=3),
    n=st.tuples(*[st.integers(1, 2)] * 3),
)
def test_output_lies_on_the_input_grid_for_any_strides(levels, strides, n):
    net = unet(features=(3, 4, 5, 6)[:levels], strides=[1, *strides[: levels - 1]])
    size = [a * b for a, b in zip(net.divisor, n, strict=True)]
    size = [max(s, 2 * d) for s, d in zip(size, net.divisor, strict=True)]  # instance norm needs two voxels
    assert net(torch.randn(2, 2, *size)).shape == (2, 3, *size)


def test_anisotropic_kernels_do_not_mix_slices():
    net = unet(features=(4, 6), strides=[1, (1, 2, 2)], kernel_sizes=[(1, 3, 3), (1, 3, 3)])
    for norm in [m for m in net.modules() if isinstance(m, torch.nn.InstanceNorm3d)]:
        norm.forward = lambda x: x  # statistics over the whole window would couple the slices
    x = torch.randn(1, 2, 4, 8, 8)
    y = x.clone()
    y[:, :, 2] += 1
    changed = (net(x) != net(y)).flatten(3).any(-1).any(1)[0]
    assert changed.tolist() == [False, False, True, False]


def test_deep_supervision_predicts_at_falling_resolution_in_training_only():
    net = unet(deep_supervision=2)
    x = torch.randn(1, 2, 16, 16, 16)
    assert net(x).shape == (1, 3, 16, 16, 16)
    out = net.train()(x)
    assert [tuple(o.shape[2:]) for o in out] == [(16,) * 3, (8,) * 3, (4,) * 3]
    sum(o.sum() for o in out).backward()
    assert all(p.grad is not None for p in net.parameters())


def test_too_much_deep_supervision_is_refused():
    with pytest.raises(ValueError, match="at most 2 coarser"):
        unet(deep_supervision=3)


def test_encoder_returns_every_level_and_its_weights_transfer():
    net = unet()
    levels = net.encoder(torch.randn(1, 2, 16, 16, 16))
    assert [tuple(x.shape[1:]) for x in levels] == [(4, *[16] * 3), (6, *[8] * 3), (8, *[4] * 3), (10, *[2] * 3)]
    Encoder(2, (4, 6, 8, 10)).load_state_dict(net.encoder.state_dict())


def test_unknown_points_are_refused_by_name():
    with pytest.raises(ValueError, match="bottleneck, decoder, head, got encoder"):
        unet(dropout={"encoder": 0.1})


def test_the_net_compiles_to_one_exported_graph():
    net = unet()
    x = torch.randn(1, 2, 16, 16, 16)
    exported = torch.export.export(net, (x,)).module()
    torch.testing.assert_close(exported(x), net(x), rtol=1e-4, atol=1e-4)
