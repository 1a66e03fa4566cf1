"""The 3D U-Net: encoder, decoder with skip connections, and dropout at named points.

    image -> [encoder levels 0..L] -(bottleneck)-> stage L-1 -(decoder)-> ... -(decoder)-> stage 0 -(head)-> logits
                     |  |  |_____________________________|                                   |
                     |  |____________________________________________________________________|   skip connections

A word in brackets on the arrow is a point where `ChannelDropout` stands (`dropout_bottleneck`, `dropout_decoder.0`,
..., `dropout_head`): the further behind, the less must be computed again for a Monte Carlo sample.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from monai.networks.blocks.dynunet_block import UnetOutBlock, UnetUpBlock
from torch import Tensor, nn

from medseg.networks.dropout import ChannelDropout
from medseg.networks.encoder import ACTIVATION, NORM, Encoder, Triple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Where dropout can stand, in the order of the computation.
POINTS = ("bottleneck", "decoder", "head")


class UNet(nn.Module):
    """3D U-Net on MONAI's blocks (Çiçek et al., MICCAI 2016; Isensee et al., Nature Methods 2021).

    The output are logits: classes for a softmax, or one channel a region for sigmoids (nested labels such as
    whole tumour and core); which of the two is for the loss and the inferer to say.

    Args:
        in_channels: channels of the image.
        out_channels: classes including background, or regions.
        features: channels of each level, finest first.
        strides: stride into each level, see `Encoder`; anisotropic ones as (1, 2, 2).
        kernel_sizes: kernel of each level, see `Encoder`.
        dropout: probability at every point, or a mapping from point to probability, see `POINTS`.
        deep_supervision: how many coarser decoder stages also predict; in training mode the output is then
            the list of logits, finest first (`monai.losses.DeepSupervisionLoss`).
        residual: residual blocks in the encoder.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        features: Sequence[int] = (32, 64, 128, 256, 320),
        strides: Sequence[Triple] | None = None,
        kernel_sizes: Sequence[Triple] | None = None,
        dropout: float | Mapping[str, float] = 0.0,
        deep_supervision: int = 0,
        *,
        residual: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= deep_supervision <= len(features) - 2:
            msg = f"{len(features)} levels have at most {len(features) - 2} coarser stages, got {deep_supervision}"
            raise ValueError(msg)
        rates = dropout_rates(dropout)
        self.encoder = Encoder(in_channels, features, strides, kernel_sizes, residual=residual)
        wide = list(features[::-1])
        coarse_to_fine = list(pairwise(wide))
        strides_up = self.encoder.strides[:0:-1]
        kernels_up = self.encoder.kernel_sizes[-2::-1]
        self.stages = nn.ModuleList(
            UnetUpBlock(3, n_in, n, kernel, 1, stride, norm_name=NORM, act_name=ACTIVATION)
            for (n_in, n), kernel, stride in zip(coarse_to_fine, kernels_up, strides_up, strict=True)
        )
        self.dropout_bottleneck = ChannelDropout(wide[0], rates["bottleneck"])
        self.dropout_decoder = nn.ModuleList(ChannelDropout(n, rates["decoder"]) for n in wide[1:-1])
        self.dropout_head = ChannelDropout(wide[-1], rates["head"])
        self.head = UnetOutBlock(3, wide[-1], out_channels)
        # Coarser predictions, from the second-finest stage downwards.
        self.supervision = nn.ModuleList(UnetOutBlock(3, n, out_channels) for n in wide[::-1][1 : 1 + deep_supervision])

    @property
    def divisor(self) -> tuple[int, int, int]:
        """A window's size along each axis must be a multiple of this."""
        return self.encoder.divisor

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """(B, C, D, H, W), each size a multiple of `divisor` -> logits (B, K, D, H, W).

        In training mode with deep supervision: a list of logits, each coarser one at its own resolution.
        """
        return self._decode(self.encoder(x))

    def _decode(self, levels: list[Tensor]) -> Tensor | list[Tensor]:
        *skips, x = levels
        outputs = []
        x = self.stages[0](self.dropout_bottleneck(x), skips[-1])
        for stage, dropout, skip in zip(self.stages[1:], self.dropout_decoder, skips[-2::-1], strict=True):
            outputs.append(x)
            x = stage(dropout(x), skip)
        logits = self.head(self.dropout_head(x))
        if not (self.training and len(self.supervision)):
            return logits
        coarser = zip(self.supervision, outputs[::-1], strict=False)
        return [logits, *(head(features) for head, features in coarser)]


def dropout_rates(dropout: float | Mapping[str, float]) -> dict[str, float]:
    """Probability at every point, from one number or a mapping; points that are not named get 0."""
    if isinstance(dropout, (int, float)):
        return dict.fromkeys(POINTS, float(dropout))
    unknown = sorted(set(dropout) - set(POINTS))
    if unknown:
        msg = f"dropout stands at the points {', '.join(POINTS)}, got {', '.join(unknown)}"
        raise ValueError(msg)
    return {point: float(dropout.get(point, 0.0)) for point in POINTS}
