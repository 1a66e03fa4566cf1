"""Feature pyramid: every level gets what the coarser ones understood (Lin et al., CVPR 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn.functional import interpolate

if TYPE_CHECKING:
    from collections.abc import Sequence


class FPN(nn.Module):
    """Lateral 1x1x1 convolutions, added up from coarse to fine, each smoothed by a 3x3x3 convolution.

    Args:
        features: channels of each level of the encoder, finest first.
        channels: of every level of the pyramid.
        outputs: how many levels come out, the finest ones; None: all. Coarser ones only give context.
    """

    def __init__(self, features: Sequence[int], channels: int, outputs: int | None = None) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv3d(n, channels, 1) for n in features)
        self.smooth = nn.ModuleList(nn.Conv3d(channels, channels, 3, padding=1) for _ in features[:outputs])

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Features (B, F_l, D_l, H_l, W_l), finest first -> (B, channels, D_l, H_l, W_l)."""
        merged: list[Tensor] = []
        for lateral, level in zip(self.lateral[::-1], levels[::-1], strict=True):
            here = lateral(level)
            merged.append(here + upsample(merged[-1], here) if merged else here)
        return [smooth(level) for smooth, level in zip(self.smooth, merged[::-1], strict=False)]


def upsample(coarse: Tensor, like: Tensor) -> Tensor:
    """Trilinear, to the size of a finer level; voxel edges are kept (as the half-voxel convention wants)."""
    return interpolate(coarse, size=like.shape[2:], mode="trilinear", align_corners=False)
