"""RoIAlign by `grid_sample` at every sample point, then a mean over the bins.

Ten to a hundred times slower on a CPU than the separable way and with every sample in memory, but made of standard
operators alone: what is exported, and an independent check of the other backends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.networks.roi_align_samples import Samples


def pool(features: Tensor, batch: Tensor, axes: Sequence[Samples], ratio: int | None) -> Tensor:
    """The bins of every RoI.

    Args:
        features: (B, C, D, H, W) float32 or float64.
        batch: (R,) int64, which volume a RoI lies in.
        axes: the samples along D, H and W.
        ratio: samples a bin, or None where each RoI has its own number.

    Returns:
        (R, C, Pd, Ph, Pw).
    """
    volumes, channels, depth = features.shape[:3]
    z, y, x = (axis.position.to(features.dtype) for axis in axes)
    if volumes != 1:
        # One volume of all slices, each volume between copies of its end slices: a sample reads its own volume only.
        features = nn.functional.pad(features, (0, 0, 0, 0, 1, 1), mode="replicate")
        features = features.transpose(0, 1).reshape(1, channels, volumes * (depth + 2), *features.shape[3:])
        z = z + (batch * (depth + 2) + 1)[:, None]
    z, y, x = ((2 * at + 1) / size - 1 for at, size in zip((z, y, x), features.shape[2:], strict=True))
    counts = (z.shape[1], y.shape[1], x.shape[1])
    points = (x[:, None, None, :], y[:, None, :, None], z[:, :, None, None])
    points = torch.stack([at.expand(-1, *counts) for at in points], -1)
    points = points.reshape(1, -1, *counts[1:], 3)
    values = nn.functional.grid_sample(features, points, padding_mode="border", align_corners=False)
    values = values.reshape(channels, -1, *counts).transpose(0, 1)
    if ratio is None:
        d, h, w = (_shares(axis).to(features.dtype) for axis in axes)
        return torch.einsum("rczyx,rpz,rqy,rsx->rcpqs", values, d, h, w)
    z, y, x = ((axis.share != 0).to(features.dtype) for axis in axes)
    values = values * (z[:, :, None, None] * y[:, None, :, None] * x[:, None, None, :])[:, None]
    return nn.functional.avg_pool3d(values, ratio)


def _shares(samples: Samples) -> Tensor:
    """(R, bins, K): the part of each sample in each bin."""
    belongs = samples.bins[:, None, :] == torch.arange(samples.count, device=samples.bins.device)[:, None]
    return belongs * samples.share[:, None, :]
