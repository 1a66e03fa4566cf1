"""Anchors: the reference boxes from which a detector starts, on the cells of one level of a pyramid.

Cell (i, j, k) of a level with strides (s, t, u) covers s x t x u voxels from edge (i s, j t, k u); its anchors are centred
on its middle, ((i + 0.5) s, (j + 0.5) t, (k + 0.5) u), and have exactly the sizes asked for. Nothing is rounded: an anchor
of 3 x 3 x 3 voxels at stride 1 is the box of a 3 x 3 x 3 object, with IoU 1.0. (MONAI rounds half sizes to even numbers,
which makes it 4 x 4 x 4 with an IoU of at most 0.42; nnDetection centres on a cell's corner.)

Worked example in two axes: cell (0, 1) of strides (1, 2) spans the edges 0 to 1 and 2 to 4, its middle is (0.5, 3), and
its anchor of size (3, 4) is (-1, 1, 2, 5): low, low, high, high.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence


def anchors_of_level(space: Sequence[int], stride: Sequence[int], sizes: Tensor | Sequence[Sequence[float]]) -> Tensor:
    """All anchors of one level.

    Args:
        space: (D, H, W) cells of the feature map.
        stride: voxels that a cell spans along each axis.
        sizes: (A, 3) sizes in voxels; a tensor says where and in which dtype the anchors are made.

    Returns:
        (D * H * W * A, 6) boxes in voxels of the image; the sizes of a cell follow each other, then the cells in the
        order of the array. So a map (D, H, W, A, ...) flattened fits, a map (A, D, H, W) does not.

    Raises:
        ValueError: sizes are not (A, 3).
    """
    half = torch.as_tensor(sizes)
    if half.ndim != 2 or half.shape[1] != 3:
        msg = f"anchor sizes are (A, 3) voxels, got {tuple(half.shape)}"
        raise ValueError(msg)
    half = (half if half.is_floating_point() else half.float()) / 2
    axes = [(torch.arange(n).to(half) + 0.5) * s for n, s in zip(space, stride, strict=True)]
    middle = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 1, 3)
    return torch.cat([middle - half, middle + half], -1).reshape(-1, 6)
