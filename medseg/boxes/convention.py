"""What a box is, written once: float voxel edges, in the order of the array's axes.

A box is a row of six numbers (low, low, low, high, high, high), one low and one high edge for each axis of the array,
first axis first. Voxel i covers [i, i + 1), so the box of a mask reaches from its first index to its last plus one,
and sizes are plain differences: there is no "+ 1" anywhere. (MONAI's "xyzxyz" on array axes; torchvision's and
detectron2's continuous coordinates, with a third axis.)

Worked example: in an array of shape (4, 8, 8) the two voxels [1, 2, 5] and [1, 3, 5] have the box
(1, 2, 5, 2, 4, 6), size (1, 2, 1), volume 2, centre (1.5, 3, 5.5). The centre of voxel 0 lies at edge coordinate 0.5:
an affine, which maps voxel indices (the centre of voxel 0 is index 0), is applied to `edge - 0.5`.

Boxes whose high edge does not exceed the low one are empty: volume 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from medseg.jit import kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Ids up to here index a table directly; above, they are counted off first.
_TABLE = 1 << 20


def boxes_of_instances(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes of all instances of a map, in one pass over its voxels.

    Args:
        labels: (D, H, W) integers: 0 background, any other id an instance (in one piece or several).

    Returns:
        ids (N,) int64, rising, and their boxes (N, 6) float32, both where `labels` is.

    Raises:
        ValueError: not three axes, not integers, or a negative id.
    """
    if labels.ndim != 3 or labels.is_floating_point() or labels.is_complex():
        msg = f"an instance map is (D, H, W) integers, got {tuple(labels.shape)} {labels.dtype}"
        raise ValueError(msg)
    array = np.ascontiguousarray(labels.detach().cpu().numpy())
    if array.dtype == np.bool_:
        array = array.view(np.uint8)
    if array.size == 0:
        return _on(labels, np.empty(0, np.int64), np.empty((0, 6), np.float32))
    if (least := int(array.min())) < 0:
        msg = f"ids of instances are positive and the background is 0, found {least}"
        raise ValueError(msg)
    ids, top = None, int(array.max())
    if top > _TABLE:
        ids, array = np.unique(array, return_inverse=True)
        ids = ids.astype(np.int64)
        shift = int(ids[0] != 0)  # place 0 is the background's, also where there is none
        ids, array = np.concatenate([np.zeros(shift, np.int64), ids]), array.reshape(labels.shape) + shift
        top = len(ids) - 1
    table = np.empty((top + 1, 6), np.int64)
    table[:, :3], table[:, 3:] = np.iinfo(np.int64).max, 0
    _enclose(array, table)
    there = np.flatnonzero(table[1:, 3] > 0) + 1
    return _on(labels, there if ids is None else ids[there], table[there].astype(np.float32))


def clip(boxes: Tensor, shape: Sequence[int]) -> Tensor:
    """(N, 6) boxes cut off at the borders of an array of `shape`; a box outside becomes empty."""
    most = boxes.new_tensor([*shape, *shape])
    return torch.minimum(boxes.clamp(min=0), most)


def cut_by_border(boxes: Tensor, shape: Sequence[int], tolerance: float = 0.0) -> Tensor:
    """Which sides of which boxes lie at the border of an array, where an object may go on beyond it.

    Args:
        boxes: (N, 6).
        shape: of the array, voxels.
        tolerance: a side counts as cut when it is at most this far inside, voxels.

    Returns:
        (N, 6) bool, one flag for each edge; `.any(1)` says whether a box is cut at all.
    """
    low = boxes[:, :3] <= tolerance
    high = boxes[:, 3:] >= boxes.new_tensor(shape) - tolerance
    return torch.cat([low, high], 1)


def centres(boxes: Tensor) -> Tensor:
    """(N, 3) midpoints, in edge coordinates (the centre of voxel 0 is 0.5)."""
    return (boxes[..., :3] + boxes[..., 3:]) / 2


def sizes(boxes: Tensor) -> Tensor:
    """(N, 3) lengths along each axis in voxels, 0 where a box is empty along it."""
    return (boxes[..., 3:] - boxes[..., :3]).clamp(min=0)


def volumes(boxes: Tensor) -> Tensor:
    """(N,) volumes in voxels."""
    x, y, z = sizes(boxes).unbind(-1)
    return x * y * z


def geometric_mean_size(boxes: Tensor, spacing_mm: Sequence[float]) -> Tensor:
    """(N,) edge length in mm of the cube with a box's volume."""
    sides = sizes(boxes) * boxes.new_tensor(spacing_mm)
    x, y, z = sides.unbind(-1)
    return (x * y * z) ** (1 / 3)


def to_mm(boxes: Tensor, affine_ras: np.ndarray | Tensor) -> Tensor:
    """The axis-aligned boxes in RAS mm that enclose boxes of a grid.

    The enclosing box is exact when the grid's axes are parallel to the patient's, and larger when they are oblique.

    Args:
        boxes: (N, 6) voxel edges.
        affine_ras: (4, 4) voxel index -> RAS mm.

    Returns:
        (N, 6) float64: least and greatest R, A, S in mm.
    """
    given = affine_ras if isinstance(affine_ras, Tensor) else np.array(affine_ras)  # that of a Grid cannot be written
    affine = torch.as_tensor(given, dtype=torch.float64, device=boxes.device)
    boxes = boxes.to(torch.float64)
    middle = (centres(boxes) - 0.5) @ affine[:3, :3].T + affine[:3, 3]
    half = (boxes[:, 3:] - boxes[:, :3]).abs() / 2 @ affine[:3, :3].abs().T
    return torch.cat([middle - half, middle + half], 1)


def _on(like: Tensor, ids: np.ndarray, boxes: np.ndarray) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(ids).to(like.device), torch.from_numpy(boxes).to(like.device)


@kernel
def _enclose(labels, table):
    """Widen the boxes `table[id]` by every run of an id along the last axis."""
    depth, height, width = labels.shape
    for i in range(depth):
        for j in range(height):
            k = 0
            while k < width:
                value = labels[i, j, k]
                first = k
                k += 1
                while k < width and labels[i, j, k] == value:
                    k += 1
                if value == 0:
                    continue
                box = table[value]
                box[0], box[3] = min(box[0], i), max(box[3], i + 1)
                box[1], box[4] = min(box[1], j), max(box[4], j + 1)
                box[2], box[5] = min(box[2], first), max(box[5], k)
