"""Replay: what lies before the first point is not computed again, and nothing else changes."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from monai.networks.nets import UNet as MonaiUNet
from torch import nn

from medseg.inferers.replay import Recording
from medseg.networks import UNet

CONVOLUTIONS = (nn.Conv3d, nn.ConvTranspose3d)


def counted(network: nn.Module) -> dict[str, int]:
    calls: dict[str, int] = {}
    for name, module in network.named_modules():
        if isinstance(module, CONVOLUTIONS):
            original = module.forward

            def forward(*args, _name=name, _original=original):
                calls[_name] = calls.get(_name, 0) + 1
                return _original(*args)

            module.forward = forward
    return calls


def unet() -> UNet:
    torch.manual_seed(0)
    return UNet(1, 3, (4, 6, 8, 10), dropout=0.3).eval()


@pytest.mark.parametrize(
    ("point", "again"),
    [
        ("dropout_bottleneck", ("stages.0", "stages.1", "stages.2", "head")),
        ("dropout_decoder.1", ("stages.2", "head")),
        ("dropout_head", ("head",)),
    ],
)
@torch.no_grad()
def test_only_what_lies_behind_the_point_runs_again(point, again):
    net = unet()
    calls = counted(net)
    recording = Recording(net, [net.get_submodule(point)], torch.randn(1, 1, 16, 16, 16))
    calls.clear()
    assert torch.equal(recording.again(), recording.output)
    assert torch.equal(recording.again(), recording.output)
    behind = [n for n, m in net.named_modules() if isinstance(m, CONVOLUTIONS) and n.startswith(again)]
    assert calls == dict.fromkeys(behind, 2)


@torch.no_grad()
def test_a_foreign_network_with_dropout_in_its_first_block_is_right_too():
    torch.manual_seed(0)
    net = MonaiUNet(3, 1, 2, (4, 8, 16), (2, 2), num_res_units=1, dropout=0.2).eval()
    points = [m for m in net.modules() if isinstance(m, nn.Dropout)]
    x = torch.randn(2, 1, 16, 16, 16)
    recording = Recording(net, points, x)
    assert torch.equal(recording.again(), net(x))
    assert recording.head is None


class InPlace(nn.Module):
    """Writes into its input and into a result behind its module's back, and pops from a list it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.last = nn.Conv3d(1, 4, 3, padding=1), nn.Dropout3d(0.5), nn.Conv3d(4, 2, 1)
        self.pair = Pair()

    def forward(self, x):
        y = self.first(x.mul_(2).sub_(0.5))
        y += 1
        pair = self.pair(y)
        y = pair.pop() + pair.pop()
        return self.last(self.drop(y) * 2)


class Pair(nn.Module):
    def forward(self, x):
        return [x, x * 2]


@torch.no_grad()
def test_writing_in_place_and_popping_do_no_harm():
    net = InPlace().eval()
    x = torch.randn(1, 1, 4, 4, 4)
    expected, before = net(x.clone()), x.clone()
    recording = Recording(net, [net.drop], x)
    assert torch.equal(recording.output, expected)
    for _ in range(3):
        assert torch.equal(recording.again(), expected)
    assert recording.head is None  # something stands between dropout and convolution
    assert torch.equal(x, before)


@torch.no_grad()
def test_a_module_used_before_and_behind_the_point_is_computed_behind_it():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.drop = nn.Conv3d(2, 2, 3, padding=1), nn.Dropout3d(0.5)

        def forward(self, x):
            return self.conv(self.drop(self.conv(x)))

    net = Twice().eval()
    x = torch.randn(1, 2, 4, 4, 4)
    recording = Recording(net, [net.drop], x)
    assert torch.equal(recording.again(), net(x))


@torch.no_grad()
def test_the_head_is_found_and_nothing_stays_on_the_network():
    net = unet()
    before = {name: (dict(m._forward_hooks), "forward" in m.__dict__) for name, m in net.named_modules()}
    x = torch.randn(1, 1, 16, 16, 16)
    recording = Recording(net, [net.dropout_head], x)
    assert recording.head is not None
    torch.testing.assert_close(recording.head.convolution(recording.head.features), net(x))
    recording.again()
    assert before == {name: (dict(m._forward_hooks), "forward" in m.__dict__) for name, m in net.named_modules()}
    assert Recording(net, [net.dropout_bottleneck], x).head is None


class Block(nn.Module):
    """A module that writes into what it is given."""

    def forward(self, x):
        return x.relu_()


@pytest.mark.parametrize("kind", ["argument", "share", "input", "interpolated"])
@torch.no_grad()
def test_a_module_that_writes_into_its_argument_does_so_each_time(kind):
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.enc, self.block, self.drop = nn.Conv3d(1, 3, 3, padding=1), Block(), nn.Dropout3d(0.5)

        def forward(self, x):
            if kind == "input":
                self.block(x)
                return self.drop(self.enc(x)) + x
            y = self.enc(x)
            if kind == "interpolated":
                y = nn.functional.interpolate(y, scale_factor=2)
            if kind == "argument":
                self.block(y)
                return self.drop(y)
            return self.drop(self.block(y)) + y

    net = Writes().eval()
    x = torch.randn(1, 1, 4, 4, 4)
    recording = Recording(net, [net.drop], x)
    assert torch.equal(recording.output, net(x.clone()))
    for _ in range(2):
        assert torch.equal(recording.again(), recording.output)


@torch.no_grad()
def test_somebodys_own_hooks_run_once():
    net = unet()
    hook = net.encoder.register_forward_hook(lambda module, args, output: [o * 2 for o in output])
    x = torch.randn(1, 1, 16, 16, 16)
    recording = Recording(net, [net.dropout_bottleneck], x)
    torch.testing.assert_close(recording.output, net(x), rtol=1e-4, atol=1e-5)
    assert torch.equal(recording.again(), recording.output)
    hook.remove()


@torch.no_grad()
def test_a_named_tuple_that_is_written_into_is_handed_out_as_a_copy():
    class Pair(NamedTuple):
        a: torch.Tensor
        b: torch.Tensor

    class Gives(nn.Module):
        def forward(self, x):
            return Pair(x + 1, x + 2)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gives, self.drop = Gives(), nn.Dropout3d(0.5)

        def forward(self, x):
            pair = self.gives(x)
            pair.a.add_(1)
            return self.drop(pair.a + pair.b)

    net = Net().eval()
    x = torch.randn(1, 1, 4, 4, 4)
    recording = Recording(net, [net.drop], x)
    for _ in range(2):
        assert torch.equal(recording.again(), net(x))


class Direct(nn.Module):
    """Calls some of its modules as usual and some past their hooks."""

    def __init__(self, order: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.enc, self.conv = nn.Conv3d(1, 2, 3, padding=1), nn.Sequential(nn.Conv3d(2, 2, 3, padding=1))
        self.drop, self.order = nn.Dropout3d(0.5), order

    def forward(self, x):
        y = self.enc(x)
        if self.order == "before, then as usual":
            return self.drop(self.conv.forward(y) - self.conv(y * 2))
        if self.order == "as usual, then before":
            return self.drop(self.conv(y) - self.conv.forward(y * 2))
        if self.order == "behind":
            return self.conv.forward(self.drop(self.conv(y)))
        if self.order == "its only child":
            return self.drop(self.conv[0].forward(y) - self.conv(y * 2))
        if self.order == "only so":
            return self.drop(self.conv.forward(y))
        return self.conv(self.drop.forward(self.conv(y)))


@pytest.mark.parametrize(
    "order", ["before, then as usual", "as usual, then before", "behind", "its only child", "only so", "the point"]
)
@torch.no_grad()
def test_modules_whose_forward_is_called_past_their_hooks(order):
    net = Direct(order).eval()
    plain = net.drop.forward
    scale = [1.0]
    net.drop.forward = lambda x: plain(x) * scale[0]
    x = torch.randn(1, 1, 4, 4, 4)
    recording = Recording(net, [net.drop], x)
    assert torch.equal(recording.output, net(x))
    for scale[0] in (1.0, 0.0, -2.0):
        assert torch.equal(recording.again(), net(x))
