"""Oracle: the modules themselves, in float64, where only a wrong sum can differ."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from monai.networks.nets import UNet
from torch import nn

from medseg.inferers import rewrite
from medseg.inferers.rewrite import ConvInBlocks, ConvTransposeInBlocks, fill_lanes

triples = st.tuples(*[st.integers(1, 4)] * 3)


@pytest.fixture(autouse=True)
def small_images_too(monkeypatch):
    monkeypatch.setattr(rewrite, "MIN_VOXELS", 0)


@pytest.fixture
def moved(monkeypatch):
    """How often channels were put back as voxels."""
    calls = []
    original = rewrite._as_voxels
    monkeypatch.setattr(rewrite, "_as_voxels", lambda *args: calls.append(1) or original(*args))
    return calls


def rewritten(module):
    other = copy.deepcopy(module)
    fill_lanes(other)
    return other


def assert_same(module, image, **settings):
    expected = module(image, **settings)
    found = rewritten(module)(image, **settings)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected)


@settings(max_examples=60, deadline=None)
@given(
    kernel=triples,
    padding=st.tuples(*[st.integers(0, 3)] * 3),
    stride=st.sampled_from([1, 1, 1, (1, 2, 1)]),
    dilation=st.sampled_from([1, 1, 1, 2]),
    groups=st.sampled_from([1, 1, 1, 2]),
    bias=st.booleans(),
    channels=st.sampled_from([1, 2, 3, 4, 5]),
    space=st.tuples(*[st.integers(4, 9)] * 3),
    items=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_convolution(kernel, padding, stride, dilation, groups, bias, channels, space, items, seed):
    assume(channels % groups == 0)
    assume(all(n + 2 * p >= dilation * (k - 1) + 1 for n, p, k in zip(space, padding, kernel, strict=True)))
    torch.manual_seed(seed)
    module = nn.Conv3d(2, channels, kernel, stride, padding, dilation, groups, bias).double()
    assert_same(module, torch.randn(items, 2, *space, dtype=torch.float64))


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    kernel=st.tuples(*[st.integers(1, 5)] * 3),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3), st.sampled_from([1, 2, 2, 3])),
    groups=st.sampled_from([1, 1, 1, 2]),
    bias=st.booleans(),
    channels=st.sampled_from([1, 2, 3, 4, 5]),
    space=st.tuples(*[st.integers(2, 6)] * 3),
    items=st.integers(1, 2),
)
def test_transposed_convolution(data, kernel, stride, groups, bias, channels, space, items):
    assume(channels % groups == 0)
    padding = data.draw(st.tuples(*[st.integers(0, k - 1) for k in kernel]))
    extra = data.draw(st.tuples(*[st.integers(0, s - 1) for s in stride]))
    axes = zip(space, stride, padding, kernel, extra, strict=True)
    assume(all((n - 1) * s - 2 * p + k + e > 0 for n, s, p, k, e in axes))
    torch.manual_seed(data.draw(st.integers(0, 99)))
    module = nn.ConvTranspose3d(2, channels, kernel, stride, padding, extra, groups, bias).double()
    assert_same(module, torch.randn(items, 2, *space, dtype=torch.float64))


@pytest.mark.parametrize(
    ("module", "space"),
    [
        (nn.Conv3d(3, 3, 3, padding=1), (8, 6, 5)),
        (nn.Conv3d(3, 4, 5, padding=2), (8, 7, 5)),  # one axis is odd
        (nn.Conv3d(1, 1, (1, 3, 3)), (7, 8, 9)),
        (nn.ConvTranspose3d(4, 3, 3, 2, 1, 1), (5, 4, 3)),
        (nn.ConvTranspose3d(4, 4, 2, 2), (5, 4, 3)),
        (nn.ConvTranspose3d(4, 1, 4, 2, 1), (5, 4, 3)),
        (nn.ConvTranspose3d(4, 1, 5, 3, 2, 2), (5, 4, 3)),
        (nn.ConvTranspose3d(4, 3, (1, 3, 3), (1, 2, 2), (0, 1, 1), (0, 1, 1)), (5, 4, 3)),
    ],
)
def test_what_fits_is_computed_in_blocks(module, space, moved):
    torch.manual_seed(0)
    image = torch.randn(2, module.in_channels, *space)
    torch.testing.assert_close(rewritten(module)(image), module(image))
    assert moved == [1]


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv3d(4, 5, 3),  # too many channels
        nn.Conv3d(4, 3, 1),  # nothing to share
        nn.Conv3d(4, 3, 3, stride=2),
        nn.Conv3d(4, 3, 3, dilation=2),
        nn.Conv3d(4, 4, 3, groups=2),
        nn.Conv3d(4, 3, 3, padding="same"),
        nn.Conv3d(4, 3, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 3, 3),
        nn.ConvTranspose3d(4, 5, 2, 2),
        nn.ConvTranspose3d(4, 3, 3, 1),
        nn.ConvTranspose3d(4, 3, 3, (2, 2, 1)),
        nn.ConvTranspose3d(4, 4, 2, 2, groups=2),
        nn.ConvTranspose3d(4, 3, 3, 2, dilation=2),
        nn.ConvTranspose3d(4, 1, 2, 2, 0, 1),  # the last voxels are bias alone
        nn.LazyConv3d(3, 3),
    ],
)
def test_what_does_not_fit_is_left_alone(module):
    before = type(module)
    fill_lanes(module)
    assert type(module) is before


def test_derived_types_are_left_alone():
    class Doubled(nn.Conv3d):
        def forward(self, x):
            return 2 * super().forward(x)

    module = Doubled(1, 1, 3)
    fill_lanes(module)
    assert type(module) is Doubled


def test_odd_sizes_unbatched_images_and_a_wanted_size_go_to_the_module_itself(moved):
    convolution = nn.Conv3d(2, 3, 3, padding=1).double()
    assert_same(convolution, torch.randn(1, 2, 5, 7, 6, dtype=torch.float64))
    assert_same(convolution, torch.randn(2, 8, 8, 8, dtype=torch.float64))
    transposed = nn.ConvTranspose3d(2, 3, 3, 2, 1).double()
    assert_same(transposed, torch.randn(1, 2, 4, 4, 4, dtype=torch.float64), output_size=[8, 8, 8])
    assert_same(transposed, torch.randn(2, 4, 4, 4, dtype=torch.float64))
    assert moved == []


def test_small_images_go_to_the_module_itself(monkeypatch, moved):
    monkeypatch.setattr(rewrite, "MIN_VOXELS", 8**3)
    module = rewritten(nn.Conv3d(1, 1, 3, padding=1))
    module(torch.randn(1, 1, 8, 8, 7))
    assert moved == []
    module(torch.randn(1, 1, 8, 8, 8))
    assert moved == [1]


def test_weights_hooks_and_names_remain():
    torch.manual_seed(0)
    network = UNet(3, 1, 3, (4, 8, 16), (2, 2), num_res_units=1).eval()
    other = copy.deepcopy(network)
    seen = []
    names = [name for name, _ in other.named_modules()]
    for module in other.modules():
        if type(module) in rewrite.IN_BLOCKS:
            module.register_forward_hook(lambda module, *_: seen.append(type(module)))
    fill_lanes(other)
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(other(image), network(image))
    assert {ConvInBlocks, ConvTransposeInBlocks} <= set(seen)
    assert [name for name, _ in other.named_modules()] == names
    assert all(
        torch.equal(a, b) for a, b in zip(other.state_dict().values(), network.state_dict().values(), strict=True)
    )


def test_weights_are_read_in_each_call():
    module = rewritten(nn.Conv3d(1, 2, 3, padding=1))
    image = torch.randn(1, 1, 8, 8, 8)
    before = module(image)
    with torch.no_grad():
        module.weight.mul_(2)
        module.bias.mul_(2)
    torch.testing.assert_close(module(image), 2 * before)


def test_bf16_rounds_once_as_the_module_does():
    torch.manual_seed(0)
    exact = nn.Conv3d(8, 3, 3, padding=1).bfloat16()
    image = torch.randn(1, 8, 16, 16, 16).bfloat16()
    with torch.no_grad():
        truth = copy.deepcopy(exact).float()(image.float())
        error = (rewritten(exact)(image).float() - truth).abs()
    assert (error <= truth.abs() * 2**-8 + 1e-5).all()
