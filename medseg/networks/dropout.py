"""Channel-wise dropout whose mask can be held fixed, so that one mask is one network.

Dropping single voxels changes the network from voxel to voxel and from window to window: a sliding window
would blend many networks into each sample. Dropping whole channels (Tompson et al., CVPR 2015) with a mask
that stays the same for every window makes one Monte Carlo sample one consistent network over the volume
(Gal and Ghahramani, ICML 2016).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ChannelDropout(nn.Module):
    """Zeroes whole channels with probability `p` and scales the others by 1 / (1 - p).

    In training mode a new mask is drawn for every call and sample. In evaluation mode the input passes
    unchanged, unless `mask` holds one: then the channels are multiplied by it.

    Args:
        channels: channels C of the input (B, C, D, H, W).
        p: probability that a channel is dropped, in [0, 1).
    """

    #: (C,) or (B, C) factors that replace the random draw, or None. Not part of the state dict.
    mask: Tensor | None

    def __init__(self, channels: int, p: float) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            msg = f"a dropout probability lies in [0, 1), got {p}"
            raise ValueError(msg)
        self.channels = channels
        self.p = float(p)
        self.mask = None

    def draw(self, generator: torch.Generator) -> Tensor:
        """One mask of factors 0 or 1 / (1 - p), shape (C,), drawn on the generator's device."""
        kept = torch.rand(self.channels, generator=generator, device=generator.device) >= self.p
        return kept.float() / (1.0 - self.p)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, D, H, W) -> the same shape."""
        if self.mask is not None:
            return x * self.mask.to(x.device, x.dtype).reshape(*self.mask.shape, 1, 1, 1)
        if self.p == 0.0:
            return x
        return nn.functional.dropout3d(x, self.p, self.training)

    def extra_repr(self) -> str:
        """What print(module) shows."""
        return f"channels={self.channels}, p={self.p}"
