"""Oracle: the sum over mirror images written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medseg.errors import UsageError
from medseg.inferers import SlidingWindowInferer
from medseg.inferers.mirror_mean import MirrorMean, mirror_mean


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Conv3d(1, 2, 3, padding=1).eval()


@torch.no_grad()
def test_the_mean_over_all_mirror_images_of_two_axes(network):
    windows = torch.randn(2, 1, 6, 5, 4)
    want = sum(network(windows.flip(axes)).flip(axes) for axes in ([], [2], [4], [2, 4])) / 4
    torch.testing.assert_close(MirrorMean(network, (0, 2))(windows), want)
    function = mirror_mean(lambda x: [network(x)], (0, 2))
    torch.testing.assert_close(function(windows), want)


@torch.no_grad()
def test_the_answer_does_not_depend_on_how_the_window_is_turned(network):
    windows = torch.randn(1, 1, 5, 6, 7)
    mean = MirrorMean(network, (0, 1, 2))
    for axes in ([2], [3, 4], [2, 3, 4]):
        torch.testing.assert_close(mean(windows.flip(axes)).flip(axes), mean(windows))


def test_without_axes_it_is_the_network_itself(network):
    assert mirror_mean(network, ()) is network


@torch.no_grad()
def test_windows_stay_as_they_are_for_a_network_that_writes_into_them():
    windows = torch.randn(1, 1, 4, 4, 4)
    before = windows.clone()
    MirrorMean(nn.ReLU(inplace=True), (0,))(windows)
    torch.testing.assert_close(windows, before)


@torch.no_grad()
def test_the_inferer_mirrors_its_windows(network):
    image = torch.randn(1, 1, 11, 9, 10)
    plain = SlidingWindowInferer((6, 6, 6), 0.5, precision="fp32")
    mirrored = SlidingWindowInferer((6, 6, 6), 0.5, precision="fp32", mirror_axes=(0, 1))
    torch.testing.assert_close(mirrored(image, network), plain(image, MirrorMean(network, (0, 1))))
    assert not torch.allclose(mirrored(image, network), plain(image, network))


def test_an_axis_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match=r"mirror_axes is \(3,\)") as caught:
        SlidingWindowInferer((4, 4, 4), mirror_axes=(3,))
    assert caught.value.code == "MS-U145"
