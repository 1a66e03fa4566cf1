"""Channel-wise dropout: whole channels are dropped, not single voxels.

Neighbouring voxels of a feature map say nearly the same, so dropping single ones hides little (Tompson et al., CVPR
2015). And a dropped channel is the same network everywhere in a volume: `medseg.inferers.McDropout` draws one mask a
sample and holds it for all windows.
"""

from __future__ import annotations

from torch import Tensor, nn


class ChannelDropout(nn.Module):
    """In training zeroes whole channels with probability `p` and scales the others by 1 / (1 - p).

    In evaluation mode the input passes unchanged.

    Args:
        channels: channels C of the input (B, C, D, H, W).
        p: probability that a channel is dropped, in [0, 1).
        one_mask: a run of the network calls it for parts of one thing, so a Monte Carlo sample has one mask for all
            calls; else one a call.
    """

    def __init__(self, channels: int, p: float, *, one_mask: bool = False) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            msg = f"a dropout probability lies in [0, 1), got {p}"
            raise ValueError(msg)
        self.channels = channels
        self.p = float(p)
        self.one_mask = one_mask

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, D, H, W) -> the same shape."""
        if self.p == 0.0:
            return x
        return nn.functional.dropout3d(x, self.p, self.training)

    def extra_repr(self) -> str:
        """What print(module) shows."""
        return f"channels={self.channels}, p={self.p}"
