"""A U-Net with a locator is that U-Net, and its locator a part of it."""

from __future__ import annotations

import pytest
import torch

from medseg.inferers.mirror_mean import mirror_mean
from medseg.networks import LocatedUNet, UNet
from medseg.networks.located import locator_of

LOCATOR = {"factors": [4, 4, 2], "window": [8, 8, 8], "features": [4, 8]}


def made(**form) -> LocatedUNet:
    torch.manual_seed(0)
    return LocatedUNet(2, 3, LOCATOR, features=(4, 8, 12), **form)


def test_it_answers_as_the_unet_whose_weights_it_has():
    network = made(deep_supervision=1).eval()
    plain = UNet(2, 3, features=(4, 8, 12), deep_supervision=1).eval()
    missing, more = plain.load_state_dict(network.state_dict(), strict=False)
    assert not missing
    assert more
    assert all(name.startswith("locator.") for name in more)
    x = torch.randn(1, 2, 8, 8, 8)
    assert torch.equal(network(x), plain(x))


def test_with_an_overview_it_answers_for_both_and_both_learn():
    network = made(deep_supervision=1).train()
    found, cells = network(torch.randn(2, 2, 8, 8, 8), torch.randn(2, 2, 8, 8, 8))
    assert [tuple(one.shape) for one in found] == [(2, 3, 8, 8, 8), (2, 3, 4, 4, 4)]
    assert cells.shape == (2, 1, 8, 8, 8)
    (sum(one.square().sum() for one in found) + cells.square().sum()).backward()
    assert all(weight.grad is not None for weight in network.parameters())


def test_a_locator_begins_by_expecting_little():
    network = made().locator.eval()
    assert network.state_dict()["head.conv.conv.bias"].sigmoid().item() == pytest.approx(0.01)
    assert network(torch.zeros(1, 2, 8, 8, 8)).sigmoid().mean() < 0.1


def test_a_window_that_its_levels_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="no multiple"):
        LocatedUNet(1, 2, LOCATOR | {"window": [9, 8, 8]}, features=(4, 8))


def test_the_locator_is_found_in_whatever_wraps_the_network():
    network = made()
    assert locator_of(network) is network.locator
    assert locator_of(mirror_mean(network, (0, 1))) is network.locator
    assert locator_of(UNet(1, 2, features=(4, 8))) is None
    assert locator_of(lambda x: x) is None
