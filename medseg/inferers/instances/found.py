"""What was found in an image: boxes, scores, classes and a mask each, kept as crops.

A full mask of 256^3 voxels for each of 400 instances would take 6.7 GB; their crops take what the instances take.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from medseg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

# A voxel belongs to an instance from here on.
INSIDE = 0.5


@dataclass(frozen=True, eq=False)
class MaskCrop:
    """How likely each voxel of a small block belongs to one instance; it is 0 everywhere else.

    Args:
        low: the block's first voxel in the image, per axis.
        probability: (d, h, w) float16 or float32, in [0, 1].
    """

    low: tuple[int, int, int]
    probability: Tensor

    @property
    def high(self) -> tuple[int, int, int]:
        """One past the block's last voxel, per axis."""
        d, h, w = self.probability.shape
        return self.low[0] + d, self.low[1] + h, self.low[2] + w


@dataclass(frozen=True, eq=False)
class Instances:
    """What was found in one image, or in one tile of it.

    Args:
        boxes: (N, 6) float32: (low, low, low, high, high, high) in array axis order, voxel edges.
        scores: (N,) float32 in [0, 1].
        classes: (N,) int64.
        masks: N crops.
        stuff: (D, H, W) uint8, class + 1 of voxels whose class has no instances, else 0, as a network with such classes
            says it of a tile; what is made of instances otherwise has none.

    Raises:
        UsageError: MS-U370 the parts are not of one length.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    masks: list[MaskCrop]
    stuff: Tensor | None = None

    def __post_init__(self) -> None:
        n = len(self.masks)
        shapes = tuple(self.boxes.shape), tuple(self.scores.shape), tuple(self.classes.shape)
        if shapes != ((n, 6), (n,), (n,)):
            what = f"{n} masks, but boxes {shapes[0]}, scores {shapes[1]} and classes {shapes[2]}"
            raise UsageError("MS-U370", what, mend="give (N, 6) boxes, (N,) scores, (N,) classes and N masks")

    def __len__(self) -> int:
        return len(self.masks)


def nothing() -> Instances:
    """No instance at all."""
    return Instances(torch.zeros(0, 6), torch.zeros(0), torch.zeros(0, dtype=torch.int64), [])


def pick(found: Instances, which: Sequence[int] | Tensor) -> Instances:
    """Those of the given indices, or those where a boolean tensor of length N is true."""
    index = torch.as_tensor(which, device=found.scores.device)
    index = index.nonzero().flatten() if index.dtype is torch.bool else index.long()
    masks = [found.masks[i] for i in index.tolist()]
    return Instances(found.boxes[index], found.scores[index], found.classes[index], masks)


def joined(parts: Sequence[Instances]) -> Instances:
    """All instances of several sets, in order; nothing is compared."""
    if not parts:
        return nothing()
    return Instances(
        torch.cat([part.boxes for part in parts]),
        torch.cat([part.scores for part in parts]),
        torch.cat([part.classes for part in parts]),
        [mask for part in parts for mask in part.masks],
    )


def moved(found: Instances, by: Sequence[int]) -> Instances:
    """The same instances in an image that begins `by` voxels earlier, per axis."""
    shift = torch.tensor([*by, *by], dtype=found.boxes.dtype, device=found.boxes.device)
    masks = [MaskCrop(_added(mask.low, by), mask.probability) for mask in found.masks]
    return Instances(found.boxes + shift, found.scores, found.classes, masks)


def clipped(found: Instances, shape: Sequence[int]) -> Instances:
    """Boxes and masks cut to an image of `shape` (D, H, W); those of which nothing is left are left out."""
    limit = torch.tensor([*shape, *shape], dtype=found.boxes.dtype, device=found.boxes.device)
    boxes = torch.minimum(found.boxes.clamp(min=0), limit)
    masks = [cut(mask, (0, 0, 0), shape) for mask in found.masks]
    some = torch.tensor([m.probability.numel() > 0 for m in masks], dtype=torch.bool, device=boxes.device)
    left = (boxes[:, 3:] > boxes[:, :3]).all(1) & some
    return pick(Instances(boxes, found.scores, found.classes, masks), left)


def cut(mask: MaskCrop, low: Sequence[int], high: Sequence[int]) -> MaskCrop:
    """The part of a mask within the voxels low <= i < high, possibly of no voxel."""
    start = [max(a, b) for a, b in zip(mask.low, low, strict=True)]
    stop = [max(s, min(a, b)) for s, a, b in zip(start, mask.high, high, strict=True)]
    if (*start,) == mask.low and (*stop,) == mask.high:
        return mask
    inner = tuple(slice(s - o, e - o) for s, e, o in zip(start, stop, mask.low, strict=True))
    return MaskCrop((start[0], start[1], start[2]), mask.probability[inner])


def on_cpu(found: Instances, dtype: torch.dtype = torch.float16) -> Instances:
    """The same instances in the computer's memory, their masks in `dtype`: what is kept of each tile."""
    masks = [MaskCrop(m.low, m.probability.detach().to("cpu", dtype)) for m in found.masks]
    boxes, scores = found.boxes.detach().float().cpu(), found.scores.detach().float().cpu()
    return Instances(boxes, scores, found.classes.detach().long().cpu(), masks)


def _added(low: tuple[int, int, int], by: Sequence[int]) -> tuple[int, int, int]:
    return low[0] + int(by[0]), low[1] + int(by[1]), low[2] + int(by[2])
