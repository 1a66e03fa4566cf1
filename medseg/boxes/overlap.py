"""How much boxes overlap: intersection, IoU, generalised IoU, intersection over the smaller.

Worked example: (0, 0, 0, 4, 4, 4) and (2, 0, 0, 6, 4, 4) share 2 x 4 x 4 = 32 of 64 + 64 - 32 = 96 voxels: IoU 1/3.
The box that encloses both holds exactly these 96, so GIoU = IoU = 1/3; the intersection over the smaller is 1/2.

A box that is not empty has IoU and GIoU of exactly 1.0 with itself, in every precision: nothing is added to a
denominator (MONAI adds 1.2e-7 voxels). An empty box has IoU 0 with everything. Half precision and integers are computed
in float32, as volumes overflow float16 from 41^3 voxels on. Everything is differentiable.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medseg.boxes.convention import volumes


def intersection_matrix(a: Tensor, b: Tensor) -> Tensor:
    """(N, M) shared volume in voxels of boxes a (N, 6) and b (M, 6)."""
    return _shared(_wide(a)[:, None], _wide(b)[None])


def iou_matrix(a: Tensor, b: Tensor) -> Tensor:
    """(N, M) intersection over union of boxes a (N, 6) and b (M, 6)."""
    return _iou(_wide(a)[:, None], _wide(b)[None])[0]


def giou_matrix(a: Tensor, b: Tensor) -> Tensor:
    """(N, M) generalised IoU in [-1, 1] of boxes a (N, 6) and b (M, 6): see `giou_pairs`."""
    return _giou(_wide(a)[:, None], _wide(b)[None])


def iom_matrix(a: Tensor, b: Tensor) -> Tensor:
    """(N, M) intersection over the smaller box's volume, of boxes a (N, 6) and b (M, 6); 0 where it is empty."""
    a, b = _wide(a)[:, None], _wide(b)[None]
    return _ratio(_shared(a, b), torch.minimum(volumes(a), volumes(b)))


def iou_pairs(a: Tensor, b: Tensor) -> Tensor:
    """(N,) IoU of each box of a (N, 6) with the box of b (N, 6) in the same row."""
    _same(a, b)
    return _iou(_wide(a), _wide(b))[0]


def giou_pairs(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU row by row: IoU minus the part of the enclosing box that neither fills.

    It still has a slope where boxes are apart, so that 1 - GIoU can be a loss (Rezatofighi et al., CVPR 2019).

    Args:
        a: (N, 6).
        b: (N, 6).

    Returns:
        (N,) in [-1, 1]; 1 only for equal boxes.

    Raises:
        ValueError: another number of boxes in b.
    """
    _same(a, b)
    return _giou(_wide(a), _wide(b))


def _giou(a: Tensor, b: Tensor) -> Tensor:
    iou, union = _iou(a, b)
    low, high = torch.minimum(a[..., :3], b[..., :3]), torch.maximum(a[..., 3:], b[..., 3:])
    around = volumes(torch.cat([low, high], -1))
    return iou - _ratio(around - union, around)


def _iou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    shared = _shared(a, b)
    union = volumes(a) + volumes(b) - shared
    return _ratio(shared, union), union


def _shared(a: Tensor, b: Tensor) -> Tensor:
    """One axis at a time: no temporary is larger than the result."""
    shared = None
    for axis in range(3):
        high = torch.minimum(a[..., axis + 3], b[..., axis + 3])
        side = (high - torch.maximum(a[..., axis], b[..., axis])).clamp(min=0)
        shared = side if shared is None else shared * side
    assert shared is not None
    return shared


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Part / whole, 0 where whole is 0, with a finite gradient there."""
    return part / torch.where(whole > 0, whole, torch.ones_like(whole))


def _wide(boxes: Tensor) -> Tensor:
    return boxes if boxes.dtype in (torch.float32, torch.float64) else boxes.to(torch.float32)


def _same(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        msg = f"pairs need as many boxes on both sides, got {tuple(a.shape)} and {tuple(b.shape)}"
        raise ValueError(msg)
