"""The encoder that medseg's networks share: it returns the features of every level."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monai.networks.blocks.dynunet_block import UnetBasicBlock, UnetResBlock
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Instance norm works with any batch size and keeps no running statistics that sites would have to share.
NORM = ("INSTANCE", {"affine": True})
ACTIVATION = ("leakyrelu", {"inplace": True, "negative_slope": 0.01})

Triple = int | tuple[int, int, int]


class Encoder(nn.Module):
    """Convolution blocks of falling resolution (Ronneberger et al., MICCAI 2015; Isensee et al., 2021).

    Args:
        in_channels: channels of the image.
        features: channels of each level, finest first.
        strides: stride into each level; the first is 1 unless the network starts at a coarser grid. A stride
            such as (1, 2, 2) keeps the resolution of a thick-slice axis.
        kernel_sizes: kernel of each level, such as (1, 3, 3) while slices are much thicker than pixels.
        residual: residual blocks instead of plain ones (He et al., 2016).
    """

    def __init__(
        self,
        in_channels: int,
        features: Sequence[int],
        strides: Sequence[Triple] | None = None,
        kernel_sizes: Sequence[Triple] | None = None,
        *,
        residual: bool = False,
    ) -> None:
        super().__init__()
        levels = len(features)
        self.features = tuple(features)
        self.strides = tuple(triple(s) for s in (strides or [1] + [2] * (levels - 1)))
        self.kernel_sizes = tuple(triple(k) for k in (kernel_sizes or [3] * levels))
        if not levels == len(self.strides) == len(self.kernel_sizes):
            msg = f"{levels} levels of features need as many strides and kernel sizes, got {strides}, {kernel_sizes}"
            raise ValueError(msg)
        block = UnetResBlock if residual else UnetBasicBlock
        widths = zip([in_channels, *features], features, strict=False)
        self.levels = nn.ModuleList(
            block(3, width_in, width, kernel_size=kernel, stride=stride, norm_name=NORM, act_name=ACTIVATION)
            for (width_in, width), kernel, stride in zip(widths, self.kernel_sizes, self.strides, strict=True)
        )

    @property
    def divisor(self) -> tuple[int, int, int]:
        """A window's size along each axis must be a multiple of this."""
        d = h = w = 1
        for stride in self.strides:
            d, h, w = d * stride[0], h * stride[1], w * stride[2]
        return d, h, w

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, D, H, W) -> features of every level, finest first."""
        out = []
        for level in self.levels:
            x = level(x)
            out.append(x)
        return out


def triple(value: Triple | Sequence[int]) -> tuple[int, int, int]:
    """An int for all three axes, or one int an axis."""
    if isinstance(value, int):
        return value, value, value
    d, h, w = value
    return int(d), int(h), int(w)
