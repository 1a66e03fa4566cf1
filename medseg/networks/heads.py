"""What is asked of a box, once its features are read: which class and where exactly, and which of its voxels.

The heads of a box are convolutions without normalisation: whether a box is bright all over or dark all over is what they
are asked, and a norm over the box would hide it. Dropout stands before the last layer of each, so Monte Carlo samples of instances need the encoder once.
"""

from __future__ import annotations

import itertools
from math import log
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from medseg.networks.dropout import ChannelDropout
from medseg.networks.fpn import upsample

if TYPE_CHECKING:
    from collections.abc import Sequence

SLOPE = 0.01
# Voxels: about what log sizes are measured from.
TYPICAL_SIZE = 16.0


class BoxHead(nn.Module):
    """Class scores and a finer box, from the features in a box and its size, which RoIAlign takes away.

    Args:
        channels: of the pyramid.
        classes: K without background.
        width: of the hidden layer.
        size: of the features of a box, at least 5.
        dropout: probability before the last layer.
    """

    def __init__(self, channels: int, classes: int, width: int = 128, size: int = 7, dropout: float = 0.0) -> None:
        super().__init__()
        # Without padding: what lies at the edge of a box says where its edge is.
        self.convolutions = nn.Sequential(*block(channels, channels, padding=0), *block(channels, channels, padding=0))
        self.hidden = nn.Linear(channels * (size - 4) ** 3 + 3, width)
        self.activation = nn.LeakyReLU(SLOPE)
        self.dropout = nn.Dropout(dropout)
        self.classes = nn.Linear(width, classes + 1)
        self.codes = nn.Linear(width, 6)
        nn.init.normal_(self.codes.weight, std=0.001)
        nn.init.zeros_(self.codes.bias)

    def forward(self, features: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """(R, F, size, size, size) and (R, 6) -> class logits (R, K + 1), background first; codes (R, 6)."""
        sizes = (boxes[:, 3:] - boxes[:, :3]).clamp(min=1e-3).log() - log(TYPICAL_SIZE)
        seen = self.convolutions(features).flatten(1)
        hidden = self.dropout(self.activation(self.hidden(torch.cat([seen, sizes.to(seen.dtype)], 1))))
        return self.classes(hidden).float(), self.codes(hidden).float()


class MaskHead(nn.Module):
    """Which voxels of a box belong to its object, at twice the resolution of the features (He et al., ICCV 2017).

    Each cell is told where in the box it lies, as in CondInst (Tian et al., ECCV 2020). Convolutions alone know it near the
    sides only, and in the middle the object looks like its neighbour in a row of parallel ones.

    Args:
        channels: of the features.
        masks: 1, or K for one mask a class.
        width: channels of the hidden layers.
        depth: convolutions before the deconvolution.
        scale: of the deconvolution along each axis; 1 keeps the size along a thick-slice axis.
        dropout: probability before the last layer.
    """

    def __init__(
        self,
        channels: int,
        masks: int = 1,
        width: int = 32,
        depth: int = 3,
        scale: Sequence[int] = (2, 2, 2),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = [channels + 3] + [width] * depth
        blocks = [block(n, m, padding=1) for n, m in itertools.pairwise(widths)]
        self.convolutions = nn.Sequential(*(layer for layers in blocks for layer in layers))
        d, h, w = scale
        self.up = nn.ConvTranspose3d(width, width, (d, h, w), (d, h, w))
        self.activation = nn.LeakyReLU(SLOPE)
        self.dropout = ChannelDropout(width, dropout, one_mask=True)  # masks are computed some at a time
        self.masks = nn.Conv3d(width, masks, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(R, F, d, h, w) -> mask logits (R, masks, scale x d, scale x h, scale x w)."""
        where = cell_centres(features).expand(len(features), -1, -1, -1, -1)
        hidden = self.convolutions(torch.cat([features, where], 1))
        return self.masks(self.dropout(self.activation(self.up(hidden)))).float()


def cell_centres(features: Tensor) -> Tensor:
    """Features (R, F, d, h, w) of boxes -> (1, 3, d, h, w): the centre of each cell, -1 to 1 between the box's sides."""
    axes = [(torch.arange(n, device=features.device) + 0.5) * (2 / n) - 1 for n in features.shape[2:]]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None].to(features.dtype)


class SemanticHead(nn.Module):
    """Classes of all voxels at full resolution, from the finest features and the pyramid (Jaeger et al., ML4H 2020).

    What it computes before its last layer is also what masks and points are refined with.

    Args:
        fine: channels of the encoder's finest level.
        channels: of the pyramid.
        classes: without background.
        width: channels of its features.
    """

    def __init__(self, fine: int, channels: int, classes: int, width: int = 16) -> None:
        super().__init__()
        self.reduce = nn.Conv3d(channels, width, 1)
        self.lateral = nn.Conv3d(fine, width, 1)
        # Instance norm, as in the encoder: over a whole image group norm's backward pass takes 20 times as long on a CPU.
        self.join = nn.Sequential(
            nn.Conv3d(width, width, 3, padding=1, bias=False),
            nn.InstanceNorm3d(width, affine=True),
            nn.LeakyReLU(SLOPE),
        )
        self.classes = nn.Conv3d(width, classes + 1, 1)

    def forward(self, fine: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """(B, fine, D, H, W) and a pyramid level -> features (B, width, D, H, W) and logits (B, classes + 1, D, H, W)."""
        lateral = self.lateral(fine)
        features = self.join(lateral + upsample(self.reduce(level), lateral))
        return features, self.classes(features)


def stuff_of(logits: Tensor, things: int) -> Tensor:
    """Which voxels belong to classes that have no instances, by the likeliest of all classes.

    Where that is the background or a class of things it is 0: what things there are, the other heads say (Kirillov et
    al., Panoptic Feature Pyramid Networks, CVPR 2019).

    Args:
        logits: (B, K + 1 + stuff, D, H, W) of a `SemanticHead`, background first, then the K classes of things.
        things: K.

    Returns:
        (B, D, H, W) uint8: class index + 1, so K + 1 and above, or 0.
    """
    best = logits.argmax(1)
    return torch.where(best > things, best, 0).to(torch.uint8)


def block(channels: int, width: int, *, padding: int) -> list[nn.Module]:
    """Convolution and activation; the scale of what comes in is kept (He et al., ICCV 2015)."""
    convolution = nn.Conv3d(channels, width, 3, padding=padding)
    nn.init.kaiming_normal_(convolution.weight, SLOPE, nonlinearity="leaky_relu")
    return [convolution, nn.LeakyReLU(SLOPE)]
