"""Any network that returns features level by level, as the encoder of medseg's networks."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence


class MonaiEncoder(nn.Module):
    """A MONAI encoder such as `monai.networks.nets.ResNetEncoder`-like modules or `SwinUNETR(...).swinViT`.

    A small image is sent through once to see the channels and strides of what comes out.

    Args:
        network: (B, C, D, H, W) -> a sequence of features, finest first, each (B, F_l, D_l, H_l, W_l).
        in_channels: channels of the image.
        probe: size of that image along each axis.

    Attributes:
        features: channels of each level.
        strides: into each level, as `Encoder` has them.
    """

    def __init__(self, network: nn.Module, in_channels: int = 1, probe: int = 64) -> None:
        super().__init__()
        self.network = network
        modes = {module: module.training for module in network.modules()}
        with torch.no_grad():
            levels = self.network.eval()(torch.zeros(1, in_channels, probe, probe, probe))
        for module, training in modes.items():
            module.training = training
        shapes = [] if isinstance(levels, Tensor) else [tuple(level.shape[2:]) for level in levels]
        if not shapes or len(set(shapes)) != len(shapes) or shapes != sorted(shapes, reverse=True):
            msg = f"{type(network).__name__} does not return features of several resolutions, finest first"
            raise ValueError(msg)
        self.features = tuple(level.shape[1] for level in levels)
        sizes = [(probe,) * 3, *(tuple(level.shape[2:]) for level in levels)]
        self.strides = tuple(tuple(a // b for a, b in zip(*pair, strict=True)) for pair in itertools.pairwise(sizes))

    def forward(self, x: Tensor) -> Sequence[Tensor]:
        """(B, C, D, H, W) -> features of every level, finest first."""
        return self.network(x)
