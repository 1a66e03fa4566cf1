"""From a mask head's small masks to the voxels of an image, and from many instances to one integer map.

The m cells of a mask are spread evenly over its box, as volumetric RoIAlign samples them: cell k has its centre at
low + (k + 1/2) * size / m, voxel i at i + 1/2. Between centres of cells the value is interpolated linearly along one
axis after the other (compiled loops on the CPU, three small matrix products elsewhere); beyond the outermost centres it
stays. The voxels whose centre lies in the box are written, or if there is none the one that holds the box's centre.

Worked example, one axis: two cells (0, 1) over the box [2, 6). Their centres are at 3 and 5; the voxels 2 to 5 with
centres 2.5, 3.5, 4.5 and 5.5 get 0, 0.25, 0.75 and 1.

A box of whole voxels and as many cells gives the mask itself; any box of whole voxels gives what
`torch.nn.functional.interpolate(mode="trilinear", align_corners=False)` gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from medseg.errors import UsageError
from medseg.inferers.instances.found import INSIDE, MaskCrop
from medseg.inferers.instances.paste_kernel import fill

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from medseg.inferers.instances.found import Instances

# Masks of which the weights are made at one time, where masks are not on the CPU.
AT_A_TIME = 256


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Instances as one integer map.

    Args:
        ids: (D, H, W) uint16, or uint32 for more than 65535 instances: 0 background, n + 1 for instance n.
        voxels: (N,) int64, how many voxels each instance has in the map; 0 where others cover it.
    """

    ids: np.ndarray
    voxels: np.ndarray


def paste(mask: Tensor, box: Tensor, shape: Sequence[int]) -> MaskCrop:
    """Write one mask into the voxels of its box.

    Args:
        mask: (m, n, o) probabilities, of any size per axis.
        box: (6,) voxel edges.
        shape: (D, H, W) of the image, at which the crop ends.

    Returns:
        The crop, in the mask's precision (float32 for less); of no voxel where the box lies outside the image, is
        empty or not finite.
    """
    return paste_all(mask[None], box[None], shape)[0]


def paste_all(masks: Tensor, boxes: Tensor, shape: Sequence[int]) -> list[MaskCrop]:
    """Write many masks, each into the voxels of its own box; see `paste`.

    Args:
        masks: (N, m, n, o) probabilities.
        boxes: (N, 6) voxel edges.
        shape: (D, H, W) of the image.

    Raises:
        UsageError: MS-U370 the numbers of masks and boxes differ.
    """
    if masks.ndim != 4 or tuple(boxes.shape) != (len(masks), 6):
        what = f"masks {tuple(masks.shape)} and boxes {tuple(boxes.shape)}"
        raise UsageError("MS-U370", what, mend="give masks as (N, d, h, w) and boxes as (N, 6)")
    masks = masks if masks.dtype == torch.float64 else masks.float()
    return (_compiled if masks.device.type == "cpu" else _by_products)(masks, boxes, shape)


def label_map(
    found: Instances,
    shape: Sequence[int],
    *,
    threshold: float = INSIDE,
    by: Literal["probability", "score"] = "probability",
) -> LabelMap:
    """Instances as one integer map: instance n is written as n + 1.

    Beyond the map itself no volume is made: where instances overlap, the owner's probability is looked up in its crop.

    Args:
        found: instances; their masks may overlap.
        shape: (D, H, W) of the image.
        threshold: probability from which on a voxel belongs to an instance.
        by: who keeps a voxel that several claim: the instance of the highest probability there (of equal ones that of
            the highest score), or of the highest score throughout.
    """
    ids = np.zeros(tuple(shape), np.uint16 if len(found) < 2**16 else np.uint32)
    voxels = np.zeros(len(found), np.int64)
    crops = [(mask.low, mask.probability.cpu().numpy()) for mask in found.masks]
    for n in np.argsort(-found.scores.cpu().numpy(), kind="stable").tolist():
        here, inner = _within(found.masks[n], shape)
        values, there = crops[n][1][inner], ids[here]
        mine = values >= threshold
        if there.any():
            lost = mine & (there > 0)
            for owner in np.unique(there[lost]).tolist():
                theirs = lost & (there == owner)
                if by == "probability":
                    theirs &= values <= _at(crops[owner - 1], [s.start for s in here], values.shape)
                    voxels[owner - 1] -= np.count_nonzero(mine & (there == owner) & ~theirs)
                mine &= ~theirs
        there[mine] = n + 1
        voxels[n] = np.count_nonzero(mine)
    return LabelMap(ids, voxels)


def _compiled(masks: Tensor, boxes: Tensor, shape: Sequence[int]) -> list[MaskCrop]:
    first, last = _voxels(boxes, shape)
    crops, cells, edges = [], masks.detach().contiguous().numpy(), boxes.detach().double().numpy()
    for n, (low, high) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        out = np.empty([b - a for a, b in zip(low, high, strict=True)], cells.dtype)
        if out.size:
            fill(cells[n], edges[n], np.array(low), out)
        crops.append(MaskCrop((low[0], low[1], low[2]), torch.from_numpy(out)))
    return crops


def _by_products(masks: Tensor, boxes: Tensor, shape: Sequence[int]) -> list[MaskCrop]:
    first, last = _voxels(boxes, shape)
    crops = []
    for begin in range(0, len(masks), AT_A_TIME):
        part = slice(begin, begin + AT_A_TIME)
        crops += _multiplied(masks[part], boxes[part].to(masks.dtype), first[part], last[part])
    return crops


def _multiplied(masks: Tensor, boxes: Tensor, first: Tensor, last: Tensor) -> list[MaskCrop]:
    weights = []
    for axis in range(3):
        low, size = boxes[:, axis], boxes[:, 3 + axis] - boxes[:, axis]
        start, count = first[:, axis], int((last - first)[:, axis].max())
        weights.append(_weights(low, size, start, count, masks.shape[1 + axis]))
    crops = []
    for n, (low, high) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        d, h, w = (b - a for a, b in zip(low, high, strict=True))
        along_w = masks[n] @ weights[2][n, :w].T  # (m, n, w)
        along_h = weights[1][n, :h] @ along_w  # (m, h, w)
        along_d = weights[0][n, :d] @ along_h.reshape(len(along_h), h * w)
        crops.append(MaskCrop((low[0], low[1], low[2]), along_d.view(d, h, w)))
    return crops


def _voxels(boxes: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """First voxel and one past the last, (N, 3) each: those whose centres the box holds, within the image."""
    sound = boxes.isfinite().all(1) & (boxes[:, 3:] > boxes[:, :3]).all(1)
    low, high = boxes.double().cpu()[:, :3], boxes.double().cpu()[:, 3:]
    low, high = (torch.where(sound.cpu()[:, None], edge, 0.0).clamp(-1e9, 1e9) for edge in (low, high))
    first, last = (low - 0.5).ceil().long(), (high - 0.5).ceil().long()
    thin = sound.cpu()[:, None] & (last <= first)
    centre = ((low + high) / 2).floor().long()
    first, last = torch.where(thin, centre, first), torch.where(thin, centre + 1, last)
    limit = torch.tensor(tuple(shape))
    first = torch.minimum(first.clamp(min=0), limit)
    last = torch.maximum(torch.minimum(last, limit), first)
    return first, torch.where((last <= first).any(1, keepdim=True), first, last)


def _weights(low: Tensor, size: Tensor, start: Tensor, count: int, cells: int) -> Tensor:
    """(N, count, cells): the share of each cell in each voxel, from voxel `start` on."""
    centres = start.to(low)[:, None] + torch.arange(count, device=low.device) + 0.5
    place = (centres - low[:, None]) * (cells / size)[:, None] - 0.5
    place = place.nan_to_num(0.0).clamp_(0, cells - 1)
    return (1 - (place[..., None] - torch.arange(cells, device=low.device)).abs_()).clamp_(min=0)


def _within(mask: MaskCrop, shape: Sequence[int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The crop's part of an image of `shape`: where it lies in the image, and where in the crop."""
    start = [max(0, a) for a in mask.low]
    stop = [max(s, min(b, n)) for s, b, n in zip(start, mask.high, shape, strict=True)]
    here = tuple(slice(s, e) for s, e in zip(start, stop, strict=True))
    return here, tuple(slice(s - a, e - a) for s, e, a in zip(start, stop, mask.low, strict=True))


def _at(crop: tuple[tuple[int, int, int], np.ndarray], corner: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """A crop's probabilities in a block of `shape` at `corner`, 0 where the block is larger."""
    low, values = crop
    block = np.zeros(tuple(shape), values.dtype)
    start = [max(a, b) for a, b in zip(low, corner, strict=True)]
    stop = [min(a + n, b + m) for a, n, b, m in zip(low, values.shape, corner, shape, strict=True)]
    if all(s < e for s, e in zip(start, stop, strict=True)):
        to = tuple(slice(s - b, e - b) for s, e, b in zip(start, stop, corner, strict=True))
        block[to] = values[tuple(slice(s - a, e - a) for s, e, a in zip(start, stop, low, strict=True))]
    return block
