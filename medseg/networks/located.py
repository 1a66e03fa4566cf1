"""Coarse to fine: a U-Net that segments windows, and beside it a small one that says where windows are worth while.

Both are parts of one module, so weights, moving average, checkpoints, ensembles and federated rounds hold both in one
state dict. Seen from outside it is the U-Net that segments; `medseg.inferers.Locate` asks the other one.
"""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from medseg.networks.unet import UNet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


#: Probability with which every cell begins: structures are rare, and a locator that has learnt little says so
#: (Lin et al., Focal loss for dense object detection, ICCV 2017).
_RARE = 0.01


class Locator(UNet):
    """A U-Net over the overview of a scan (`medseg.transforms.Overviewd`): one logit a cell, positive near a structure.

    Args:
        in_channels: of the image.
        factors: voxels of a cell along each axis.
        window: cells that it sees at a time, a multiple of its `divisor`.
        form: further arguments of `UNet`.
    """

    def __init__(self, in_channels: int, factors: Sequence[int], window: Sequence[int], **form: Any) -> None:
        super().__init__(in_channels, 1, **form)
        self.factors = tuple(int(f) for f in factors)
        self.window = tuple(int(n) for n in window)
        if any(n % d for n, d in zip(self.window, self.divisor, strict=True)):
            msg = f"a locator's window of {self.window} cells is no multiple of {self.divisor}"
            raise ValueError(msg)
        nn.init.constant_(self.head.conv.conv.bias, log(_RARE / (1 - _RARE)))  # type: ignore[arg-type]


class LocatedUNet(UNet):
    """`UNet` with a `Locator`.

    Args:
        in_channels: of the image.
        out_channels: classes including background, or regions.
        locator: arguments of `Locator` after the channels.
        form: further arguments of `UNet`.
    """

    def __init__(self, in_channels: int, out_channels: int, locator: Mapping[str, Any], **form: Any) -> None:
        super().__init__(in_channels, out_channels, **form)
        self.locator = Locator(in_channels, **locator)

    def forward(self, x: Tensor, overview: Tensor | None = None) -> Any:
        """As `UNet`; with the overviews (B, C, *cells) of the scans: (that, the locator's logits (B, 1, *cells))."""
        found = super().forward(x)
        return found if overview is None else (found, self.locator(overview))


def locator_of(network: object) -> Locator | None:
    """The locator inside a network, also one that is wrapped (mirror images, ranks); None where there is none."""
    modules = network.modules() if isinstance(network, nn.Module) else ()
    return next((module for module in modules if isinstance(module, Locator)), None)
