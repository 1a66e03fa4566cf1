"""Foreign networks as encoders: channels and strides are seen, modes and weights stay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medseg.networks import MonaiEncoder


class Levels(nn.Module):
    """Convolutions of given strides, each a level; or what `gives` makes of them."""

    def __init__(self, strides, gives=None, channels: int = 1) -> None:
        super().__init__()
        widths = [channels, *(2 * (i + 1) for i in range(len(strides)))]
        self.steps = nn.ModuleList(
            nn.Conv3d(a, b, 3, s, 1) for a, b, s in zip(widths[:-1], widths[1:], strides, strict=True)
        )
        self.norm, self.gives = nn.BatchNorm3d(channels), gives

    def forward(self, x):
        x, out = self.norm(x), []
        for step in self.steps:
            x = step(x)
            out.append(x)
        return out if self.gives is None else self.gives(out)


def test_channels_and_strides_of_each_level_are_seen():
    encoder = MonaiEncoder(Levels([1, 2, (1, 2, 2)]), probe=16)
    assert encoder.features == (2, 4, 6)
    assert encoder.strides == ((1, 1, 1), (2, 2, 2), (1, 2, 2))
    assert MonaiEncoder(Levels([2, 2], tuple, channels=3), in_channels=3, probe=16).strides == ((2, 2, 2),) * 2


def test_it_gives_what_the_network_gives():
    network = Levels([1, 2]).eval()
    x = torch.randn(2, 1, 8, 8, 8)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(MonaiEncoder(network, probe=8)(x), network(x), strict=True))


@pytest.mark.parametrize("training", [True, False])
def test_looking_at_it_changes_neither_modes_nor_statistics(training):
    network = Levels([1, 2]).train(training)
    network.steps[0].train(not training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    MonaiEncoder(network, probe=8)
    assert (network.training, network.norm.training, network.steps[0].training) == (training, training, not training)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


@pytest.mark.parametrize(
    "gives",
    [
        lambda levels: levels[0],  # one tensor
        lambda levels: [],
        lambda levels: levels[::-1],  # coarsest first
        lambda levels: [levels[0], levels[0]],  # one resolution twice
    ],
)
def test_what_is_no_pyramid_is_refused_by_name(gives):
    with pytest.raises(ValueError, match="Levels does not return features of several resolutions"):
        MonaiEncoder(Levels([1, 2], gives), probe=8)
