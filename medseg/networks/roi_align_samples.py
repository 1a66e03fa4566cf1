"""Where RoIAlign samples: the one place of its coordinates, shared by every backend.

Hand-worked, one axis of 6 voxels, box [1, 4), 3 bins, 2 samples a bin. Voxel i covers [i, i + 1), so its value stands
at the coordinate i + 0.5; in indices the box is [0.5, 3.5) and a bin is 1 wide. Bin 0 samples the indices 0.75 and 1.25:

    index 0.75 = 0.25 f[0] + 0.75 f[1]
    index 1.25 =             0.75 f[1] + 0.25 f[2]
    bin 0      = 0.125 f[0] + 0.75 f[1] + 0.125 f[2]

The rules at the border are those of torchvision's C++ kernel with `aligned=True` (Detectron2's convention), in 3D:

- a sample at an index below -1 or above the number of voxels adds nothing, but is counted in the mean of its bin;
- other samples are moved to the nearest voxel's index in [0, size - 1];
- without a sampling ratio each RoI takes ceil(bin size) samples a bin and axis, and none where it has no extent;
- a box turned around (high < low) is sampled backwards with a sampling ratio, and gives zeros without;
- a box that is not finite gives zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MOST_SAMPLES = 2.0**31
"""An axis of a RoI that would take more samples than this takes none (torchvision's counter would overflow)."""


@dataclass(frozen=True)
class Samples:
    """Samples of R RoIs along one axis, at most K each.

    Attributes:
        position: (R, K) index between voxels, in [0, size - 1].
        share: (R, K) part in the mean of its bin: 1 / samples a bin, 0 where the sample adds nothing.
        bins: (R, K) int64, rising along K.
        count: number of bins.
        size: number of voxels.
    """

    position: Tensor
    share: Tensor
    bins: Tensor
    count: int
    size: int

    def __getitem__(self, rois) -> Samples:
        """The samples of some RoIs."""
        return Samples(self.position[rois], self.share[rois], self.bins[rois], self.count, self.size)

    def taps(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """(R, K) each: the lower voxel (int64), its weight and the next voxel's weight."""
        low = self.position.floor().clamp(max=self.size - 1)
        far = (self.position - low) * self.share
        return low.long(), (self.share - far).to(dtype), far.to(dtype)


def sample_axis(low: Tensor, high: Tensor, scale: float, size: int, count: int, ratio: int | None) -> Samples:
    """Samples of boxes along one axis.

    Args:
        low: (R,) lower edges, float32 or float64: coordinates are computed in it.
        high: (R,) upper edges.
        scale: voxels of the features per unit of the boxes.
        size: voxels of the features along the axis.
        count: bins.
        ratio: samples a bin; None: ceil(bin size) of each RoI.
    """
    start = low * scale - 0.5
    width = (high * scale - 0.5 - start) / count
    if ratio is None:
        return _adaptive(start, width, size, count)
    k = torch.arange(count * ratio, device=low.device)
    bins = torch.div(k, ratio, rounding_mode="floor")
    within = (k - bins * ratio).to(low.dtype) + 0.5
    # The order of torchvision's arithmetic: a sample at exactly -1 or `size` must fall on the same side.
    position = start[:, None] + bins * width[:, None] + within * width[:, None] / ratio
    share = torch.full_like(position, 1.0 / ratio)
    return _at_border(position, share, bins.expand_as(position), count, size)


def _adaptive(start: Tensor, width: Tensor, size: int, count: int) -> Samples:
    """A RoI of any width in bounded memory: only samples that may lie within the features are made."""
    each = width.ceil()
    usable = torch.isfinite(start) & (each > 0) & (each * count < MOST_SAMPLES)
    each = torch.where(usable, each, 1)
    start, width = torch.where(usable, start, 0), torch.where(usable, width, 1)
    total = (each * count).long()
    step = width.double() / each
    first = (((-1 - start) / step).floor() - 2).clamp(min=0).minimum(total.double()).long()
    some = (((size + 1) / step).floor() + 6).minimum((total - first).double()).long()
    some = torch.where(usable, some, 0)
    k = torch.arange(max(1, int(some.max())) if len(some) else 1, device=start.device)
    at = first[:, None] + k
    used = k < some[:, None]
    grid = each.long()[:, None]
    bins = torch.div(at, grid, rounding_mode="floor")
    within = (at - bins * grid).to(start.dtype) + 0.5
    position = start[:, None] + bins * width[:, None] + within * width[:, None] / each[:, None]
    share = used / each[:, None]
    return _at_border(position, share, bins.clamp(max=count - 1), count, size)


def _at_border(position: Tensor, share: Tensor, bins: Tensor, count: int, size: int) -> Samples:
    inside = (position >= -1) & (position <= size)  # NaN compares false
    share = torch.where(inside, share, 0)
    position = torch.where(inside, position, 0).clamp(0, size - 1)
    return Samples(position, share, bins, count, size)
