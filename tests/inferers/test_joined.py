"""A concatenation that is put off: the same convolution, the same anything else, and the same part only once."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.nets import AttentionUnet, DynUNet
from monai.networks.nets import UNet as MonaiUNet
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from medseg.inferers.joined import Joined, Same, Shared, plain
from medseg.inferers.replay import Recording
from medseg.networks import UNet


class Convolved(TorchDispatchMode):
    """Channels that come into each convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.channels: list[int] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.convolution.default:
            self.channels.append(args[0].shape[1])
        return func(*args, **(kwargs or {}))


def parts(sizes: list[int], same: list[bool], dtype: torch.dtype = torch.float64) -> tuple[Shared, list[torch.Tensor]]:
    torch.manual_seed(len(sizes))
    shared = Shared()
    shared.active = True
    tensors = [torch.randn(2, n, 4, 5, 6, dtype=dtype) for n in sizes]
    return shared, [shared.mark(t) if s else t for t, s in zip(tensors, same, strict=True)]


@given(
    kinds=st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=2, max_size=5),
    bias=st.booleans(),
    stride=st.sampled_from([1, 2, (1, 2, 1)]),
    padding=st.sampled_from([0, 1, (0, 1, 1)]),
    dilation=st.sampled_from([1, (1, 2, 1)]),
)
@settings(max_examples=60, deadline=None)
@torch.no_grad()
def test_any_convolution_is_that_of_the_concatenation(kinds, bias, stride, padding, dilation):
    _, tensors = parts([n for n, _ in kinds], [s for _, s in kinds])
    conv = nn.Conv3d(sum(n for n, _ in kinds), 3, 3, stride, padding, dilation, bias=bias, dtype=torch.float64)
    expected = conv(torch.cat([plain(t) for t in tensors], 1))
    joined = torch.cat(tensors, 1)
    assert isinstance(joined, Joined) == (len({s for _, s in kinds}) == 2)
    for _ in range(2):  # computed, then known
        result = conv(joined)
        assert type(result) is torch.Tensor
        torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_the_same_part_is_convolved_once():
    shared, (skip, below) = parts([3, 5], [True, False])
    conv = nn.Conv3d(8, 2, 3, dtype=torch.float64)
    with Convolved() as seen:
        conv(torch.cat([skip, below], 1))
        conv(torch.cat([skip, below * 2], dim=-4))
    assert seen.channels == [3, 5, 5]
    other = shared.mark(plain(skip) + 1)
    torch.testing.assert_close(conv(torch.cat([other, below], 1)), conv(torch.cat([plain(other), below], 1)))


@pytest.mark.parametrize(
    "use",
    [
        lambda x: x.relu(),
        lambda x: x + 1,
        lambda x: 1 - x,
        lambda x: x[:, 1:3],
        lambda x: x.mean((2, 3, 4)),
        lambda x: torch.cat([x, x], 1),
        lambda x: torch.stack([x, x]),
        lambda x: nn.functional.interpolate(x, scale_factor=2),
        lambda x: nn.functional.conv3d(x, torch.ones(8, 1, 1, 1, 1, dtype=x.dtype), groups=8),
        lambda x: nn.functional.conv_transpose3d(x, torch.ones(8, 2, 2, 2, 2, dtype=x.dtype)),
        lambda x: nn.functional.instance_norm(x),
        lambda x: x.permute(0, 2, 3, 4, 1).flatten(0, 3) @ torch.ones(8, 2, dtype=x.dtype),
        lambda x: x.to(torch.float32),
        lambda x: x.clone(),
        lambda x: x.unflatten(1, (2, 4)).sum(1),
        lambda x: torch.einsum("bcijk->bc", x),
    ],
)
@torch.no_grad()
def test_everything_else_sees_the_concatenation(use):
    _, tensors = parts([3, 5], [True, False])
    whole = torch.cat([plain(t) for t in tensors], 1)
    joined = torch.cat(tensors, 1)
    assert (joined.shape, joined.ndim, joined.dtype, joined.device) == (whole.shape, 5, whole.dtype, whole.device)
    assert torch.equal(plain(use(joined)), use(whole))
    assert torch.equal(joined, whole)


@torch.no_grad()
def test_what_is_written_into_it_is_found_there():
    _, tensors = parts([3, 5], [True, False])
    joined, whole = torch.cat(tensors, 1), torch.cat([plain(t) for t in tensors], 1)
    conv = nn.Conv3d(8, 2, 3, dtype=torch.float64)
    expected = conv(whole.clamp(min=0))
    nn.functional.relu(joined, inplace=True)
    assert torch.equal(conv(joined), expected)
    assert isinstance(tensors[0], Same)
    assert torch.equal(plain(tensors[0]), whole[:, :3])


@torch.no_grad()
def test_what_is_no_concatenation_of_channels_is_done_at_once():
    shared, (skip, below) = parts([3, 3], [True, False])
    assert not isinstance(torch.cat([skip, below], 0), Joined)
    assert not isinstance(torch.cat([skip, below], 2), Joined)
    assert not isinstance(torch.cat([skip, skip], 1), Joined)
    assert torch.cat([skip, below.float()], 1).dtype == torch.float64
    shared.active = False
    assert type(torch.cat([skip, below], 1)) is torch.Tensor


def networks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {
        "medseg": UNet(1, 3, (4, 6, 8, 10), dropout=0.3),
        "monai": MonaiUNet(3, 1, 2, (4, 8, 16), (2, 2), num_res_units=1, dropout=0.2),
        "dynunet": DynUNet(
            3, 1, 2, [3] * 3, [1, 2, 2], [2, 2], filters=[4, 6, 8], dropout=0.2, res_block=True, deep_supervision=False
        ),
        "attention": AttentionUnet(3, 1, 2, (4, 8, 16), (2, 2), dropout=0.2),
    }


@pytest.mark.parametrize("name", networks())
@torch.no_grad()
def test_a_sample_is_what_the_network_gives_with_its_last_dropouts_masked(name):
    """Dropout at every second point, so that some of the network lies before the first and some behind."""
    net = networks()[name].eval()
    points = [m for m in net.modules() if isinstance(m, nn.Dropout) or type(m).__name__ == "ChannelDropout"]
    points = points[len(points) // 2 :]
    x = torch.randn(1, 1, 16, 16, 16)
    scale = [1.0]

    def masked(module, args, output):
        shape = [1, output.shape[1], *[1] * (output.ndim - 2)]
        return output * (1 + scale[0] * (torch.arange(output.shape[1]) % 2)).reshape(shape)

    hooks = [point.register_forward_hook(masked) for point in points]
    recording = Recording(net, points, x)
    assert type(recording.output) is torch.Tensor
    for scale[0] in (1.0, 0.0, -1.0):
        torch.testing.assert_close(recording.again(), net(x), rtol=1e-4, atol=1e-5)
    scale[0] = 1.0
    assert torch.equal(recording.again(), recording.output)
    assert bool(recording.splits) == (name in ("medseg", "dynunet"))
    for hook in hooks:
        hook.remove()


class Traps(nn.Module):
    """An encoder, a point, and something done with the skip connection and what comes from below."""

    def __init__(self, use) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.enc, self.drop, self.conv = nn.Conv3d(1, 3, 3, padding=1), nn.Dropout3d(0.5), nn.Conv3d(6, 2, 3, padding=1)
        self.use = use

    def forward(self, x):
        skip = self.enc(x)
        return self.use(self, self.drop(skip) * 1.0, skip)


def conv3d(net, y, padding=1, dilation=1, bias=True):
    return nn.functional.conv3d(y, net.conv.weight, net.conv.bias if bias else None, 1, padding, dilation)


def dilated(net, d, k):
    y = torch.cat([d, k], 1)
    return conv3d(net, y) + conv3d(net, y, 2, 2) + conv3d(net, y, 3, 3)


def both_orders(net, d, k):
    return net.conv(torch.cat([d, k], 1)) + net.conv(torch.cat([k, d], 1))


def with_and_without_bias(net, d, k):
    y = torch.cat([d, k], 1)
    return conv3d(net, y) + conv3d(net, y, bias=False)


def written_before_use(net, d, k):
    y = torch.cat([d, k], 1)
    z = nn.functional.relu_(d)
    return net.conv(y) + z.mean()


def weight_changed_between(net, d, k):
    y = torch.cat([d, k], 1)
    before = net.conv(y)
    net.conv.weight.mul_(2)
    after = net.conv(y)
    net.conv.weight.div_(2)
    return before + after


def parameters_made_anew(net, d, k):
    y = torch.cat([d, k], 1)
    return sum(nn.functional.conv3d(y, nn.Parameter(net.conv.weight * (i + 1))) for i in range(20))


def two_precisions(net, d, k):
    y = torch.cat([d, k], 1)
    with torch.autocast("cpu", torch.bfloat16):
        half = net.conv(y)
    return half.float() * 0 + net.conv(y)


@pytest.mark.parametrize(
    "use",
    [
        dilated,
        both_orders,
        with_and_without_bias,
        written_before_use,
        weight_changed_between,
        parameters_made_anew,
        two_precisions,
    ],
)
@torch.no_grad()
def test_what_the_share_depends_on_is_told_apart(use):
    net = Traps(use).eval()
    x = torch.randn(1, 1, 6, 6, 6)
    hook = net.drop.register_forward_hook(lambda module, args, output: output * 1.5)
    expected = net(x)
    recording = Recording(net, [net.drop], x)
    for _ in range(2):
        torch.testing.assert_close(recording.again(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(recording.again(), recording.output)
    hook.remove()


@torch.no_grad()
def test_what_a_network_keeps_is_ordinary_after_the_recording():
    """A network that caches a module's result, run plainly afterwards with other weights."""
    kept = []

    def caches(net, d, k):
        if not kept:
            kept.append(k)
        return net.conv(torch.cat([d, kept[0]], 1))

    net = Traps(caches).eval()
    x = torch.randn(1, 1, 6, 6, 6)
    Recording(net, [net.drop], x)
    net.conv.weight.mul_(3)
    expected = nn.functional.conv3d(
        torch.cat([net.enc(x), plain(kept[0])], 1), net.conv.weight, net.conv.bias, padding=1
    )
    torch.testing.assert_close(net(x), expected)


@torch.no_grad()
def test_a_recording_is_gone_with_its_last_name():
    net = networks()["medseg"].eval()
    gc.disable()
    try:
        gone = []
        for _ in range(3):
            recording = Recording(net, [net.dropout_bottleneck], torch.randn(1, 1, 16, 16, 16))
            recording.again()
            gone.append(weakref.ref(recording._shared))
            del recording
        assert [one() for one in gone] == [None] * 3
    finally:
        gc.enable()


@torch.no_grad()
def test_who_asks_for_its_memory_gets_the_concatenation_or_an_error():
    _, tensors = parts([3, 5], [True, False])
    whole = torch.cat([plain(t) for t in tensors], 1)
    assert torch.equal(torch.from_dlpack(torch.cat(tensors, 1)), whole)
    assert torch.equal(torch.from_numpy(np.from_dlpack(torch.cat(tensors, 1))), whole)
    with pytest.raises(RuntimeError, match="data pointer"):
        torch.utils.dlpack.to_dlpack(torch.cat(tensors, 1))
