"""The network's form: as deep as the patch allows, thick slices wait."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.networks import UNet
from medseg.training.plan.topology import DEEPEST, LEAST, rounded_up, topology_of


def test_the_hippocampus_has_the_shipped_form():
    found = topology_of((35, 50, 36), (1, 1, 1), 24)
    assert found.features == (24, 48, 96, 192)
    assert found.strides == ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    assert found.arguments() == {"features": [24, 48, 96, 192]}
    assert rounded_up((35, 50, 36), found.divisor) == (40, 56, 40)


def test_thick_slices_wait_until_pixels_are_as_coarse():
    found = topology_of((256, 256, 16), (1.0, 1.0, 4.0), 16)
    # 1 and 2 mm pixels under 4 mm slices are flat; at 4 mm all axes are alike
    assert found.strides[:4] == ((1, 1, 1), (2, 2, 1), (2, 2, 1), (2, 2, 2))
    assert found.kernels[:3] == ((3, 3, 1), (3, 3, 1), (3, 3, 3))
    assert found.arguments()["strides"][1] == [2, 2, 1]


def test_levels_and_width_have_an_end():
    found = topology_of((1024, 1024, 1024), (1, 1, 1), 16)
    assert found.features == (16, 32, 64, 128, 128, 128)
    assert len(found.features) == DEEPEST


@given(
    st.tuples(*[st.integers(8, 200)] * 3),
    st.tuples(*[st.floats(0.4, 6.0)] * 3),
)
def test_every_axis_keeps_its_least_and_kernels_only_grow(size, spacing):
    found = topology_of(size, spacing, 16)
    patch = rounded_up(size, found.divisor)
    assert all(n % d == 0 and p >= n for n, d, p in zip(patch, found.divisor, patch, strict=True))
    assert all(n / d >= LEAST or d == 1 for n, d in zip(size, found.divisor, strict=True))
    for before, after in zip(found.kernels, found.kernels[1:], strict=False):
        assert all(a >= b for a, b in zip(after, before, strict=True))
    assert max(found.cumulative()) == found.divisor


@settings(max_examples=5)
@given(st.sampled_from([((20, 20, 8), (1, 1, 3)), ((16, 24, 16), (1, 1, 1)), ((9, 9, 9), (2, 1, 1))]))
def test_the_network_takes_the_patch(case):
    size, spacing = case
    found = topology_of(size, spacing, 4)
    patch = rounded_up(size, found.divisor)
    network = UNet(1, 2, features=found.features, strides=found.strides, kernel_sizes=found.kernels)
    assert network.divisor == found.divisor
    assert network(torch.rand(1, 1, *patch)).shape == (1, 2, *patch)


def test_a_shorter_one_is_its_finest_levels():
    assert topology_of((64, 64, 64), (1, 1, 1), 8).shortened(3).features == (8, 16, 32)


@pytest.mark.parametrize(("size", "divisor", "wanted"), [((1, 9, 16), (8, 8, 8), (8, 16, 16))])
def test_rounding_up(size, divisor, wanted):
    assert rounded_up(size, divisor) == wanted
