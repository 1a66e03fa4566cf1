"""A lone window by oneDNN: the same convolution, where torch would take im2col, and nowhere else."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.nets import UNet as MonaiUNet
from torch import nn
from torch.nn.functional import conv3d
from torch.profiler import ProfilerActivity, profile

from medseg.inferers import SlidingWindowInferer
from medseg.inferers.lone import LoneWindow
from medseg.networks import UNet

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


@given(
    channels=st.integers(1, 5),
    kernel=st.sampled_from([(3, 3, 3), (1, 3, 3), (3, 1, 2)]),
    stride=st.sampled_from([1, 2, (1, 2, 1)]),
    padding=st.sampled_from([0, 1, (0, 1, 2)]),
    dilation=st.sampled_from([1, (1, 2, 1)]),
    bias=st.booleans(),
    last=st.booleans(),
)
@settings(max_examples=40, deadline=None)
@torch.no_grad()
def test_it_is_the_convolution(channels, kernel, stride, padding, dilation, bias, last):
    torch.manual_seed(channels)
    layer = nn.Conv3d(channels, 4, kernel, stride, padding, dilation, bias=bias)
    x = torch.randn(1, channels, 6, 7, 8)
    x = x.to(memory_format=torch.channels_last_3d) if last else x.transpose(2, 3)
    expected = conv3d(
        x.double(), layer.weight.double(), layer.bias.double() if bias else None, stride, padding, dilation
    )
    with LoneWindow() as mode:
        found = layer(x)
    assert mode.count == 1
    assert found.is_contiguous() or found.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "use",
    [
        lambda x, w: conv3d(torch.cat([x, x]), w),  # two windows
        lambda x, w: conv3d(x[0], w),  # without a batch
        lambda x, w: conv3d(x, w, padding="same"),
        lambda x, w: conv3d(x, w[:, :1].repeat(1, 1, 1, 1, 1), groups=2),
        lambda x, w: conv3d(x, w[..., :1, :1, :1]),
        lambda x, w: conv3d(x.double(), w.double()),
        lambda x, w: conv3d(torch.randn(1, 2, 103, 103, 4), w),  # torch takes oneDNN itself
        lambda x, w: torch.conv_transpose3d(x, w),
    ],
)
@torch.no_grad()
def test_everything_else_is_left_to_torch(use):
    torch.manual_seed(0)
    x, w = torch.randn(1, 2, 6, 6, 6), torch.randn(2, 2, 3, 3, 3)
    torch.manual_seed(1)
    expected = use(x, w)
    torch.manual_seed(1)
    with LoneWindow() as mode:
        assert torch.equal(use(x, w), expected)
    assert mode.count == 0


def test_where_gradients_or_autocast_are_asked_for_nothing_changes():
    layer, x = nn.Conv3d(2, 2, 3), torch.randn(1, 2, 6, 6, 6)
    with LoneWindow() as mode:
        layer(x).sum().backward()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
    assert mode.count == 0
    assert layer.weight.grad is not None


@pytest.mark.parametrize(
    "network", [UNet(1, 3, (4, 8, 16)), MonaiUNet(3, 1, 3, (4, 8, 16), (2, 2), num_res_units=2)], ids=["own", "monai"]
)
@torch.no_grad()
def test_an_inferer_computes_no_window_by_im2col_and_gives_the_networks_logits(network):
    network.eval()
    x = torch.randn(1, 1, 24, 24, 24)
    kernels = [m for m in network.modules() if isinstance(m, nn.Conv3d) and max(m.kernel_size) == 1]
    inferer = SlidingWindowInferer((24, 24, 24), precision="fp32")
    found = inferer(x, network)
    torch.testing.assert_close(found, network(x), rtol=1e-4, atol=1e-5)
    assert by_im2col(lambda: inferer(x, network)) <= len(kernels) < by_im2col(lambda: network(x))


def by_im2col(run) -> int:
    """How many convolutions are."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        run()
    return sum(event.count for event in seen.key_averages() if event.key == "aten::slow_conv3d_forward")
