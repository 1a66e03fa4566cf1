"""From a pyramid to features of boxes: each box is read from the level on which it is about as large as the output.

With strides s_a of a level the box measures size_a / s_a there; spacing cancels, so this is the assignment by size in mm.
The level is the one whose geometric mean over the axes is nearest to `target` cells, as a ratio. Anisotropic levels take
part by their own strides; Mask R-CNN's 4 + log2(sqrt(area) / 224) would put every organ on one level.

Worked example: target 7, strides 2, 4, 8: a box of 30 voxels measures 15, 7.5 and 3.75 cells and is read from stride 4.
"""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medseg.networks.roi_align import roi_align_3d

if TYPE_CHECKING:
    from collections.abc import Sequence

SMALLEST = 1e-3


def assigned_level(boxes: Tensor, strides: Sequence[Sequence[int]], target: float) -> Tensor:
    """(R, 6) boxes -> (R,) index of the level that each is read from."""
    size = (boxes[:, 3:] - boxes[:, :3]).float().clamp(min=SMALLEST).log().mean(1, keepdim=True)
    stride = torch.tensor(strides, dtype=torch.float32, device=boxes.device).log().mean(1)
    return (size - stride - log(target)).abs().argmin(1)


def pool(
    levels: Sequence[Tensor],
    strides: Sequence[Sequence[int]],
    boxes: Sequence[Tensor],
    size: int | tuple[int, int, int],
    *,
    target: float,
    sampling_ratio: int = 2,
) -> Tensor:
    """Features of boxes, each from its level.

    Args:
        levels: (B, F, D_l, H_l, W_l), finest first.
        strides: of each level, voxels of the image.
        boxes: for each image (R_b, 6).
        size: of the output.
        target: cells that a box should measure on its level.
        sampling_ratio: see `roi_align_3d`.

    Returns:
        (sum of R_b, F, *size), in the order of the images.
    """
    rois = with_image(boxes)
    which = assigned_level(rois[:, 1:], strides, target)
    depth, height, width = (size, size, size) if isinstance(size, int) else size
    out = levels[0].new_zeros((len(rois), levels[0].shape[1], depth, height, width))
    for index, (level, stride) in enumerate(zip(levels, strides, strict=True)):
        here = (which == index).nonzero()[:, 0]
        if len(here):
            scale = tuple(1 / s for s in stride)
            pooled = roi_align_3d(level, rois[here], (depth, height, width), scale, sampling_ratio)
            out = out.index_copy(0, here, pooled.to(out.dtype))
    return out


def with_image(boxes: Sequence[Tensor]) -> Tensor:
    """For each image (R_b, 6) -> (R, 7): index of the image, then the box."""
    return torch.cat([torch.cat([b.new_full((len(b), 1), float(i)), b], 1) for i, b in enumerate(boxes)])
