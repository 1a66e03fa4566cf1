"""What is known of an image's instances, and what follows from it for anchors, regions and voxels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medseg.boxes.convention import boxes_of_instances, centres
from medseg.boxes.overlap import iou_matrix, iou_pairs
from medseg.networks.roi_align import roi_align_3d

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Bits of what is true of an instance in the map: its box only, not its voxels; nothing, what lies there is not looked at;
#: its voxels only, it is no instance.
BOX_ONLY, IGNORED, STUFF = 1, 2, 4
# An instance that the border of the image leaves thinner than this, in voxels, is not looked at.
THINNEST = 2

# Anchors of each level and shape that may propose an instance.
CANDIDATES = 4
AT_A_TIME = 32
# More of an anchor or proposal than this inside a region to ignore: it is not a negative.
IGNORED_SHARE = 0.5
NEGATIVE, LEFT_OUT = -1, -2


@dataclass(frozen=True, eq=False)
class Truth:
    """The instances of one image.

    Args:
        labels: (D, H, W) integer map, 0 background.
        ids: (N,) value of each instance in the map.
        boxes: (N, 6).
        classes: (N,) int64, from 0.
        has_mask: (N,) bool: the voxels are true, not only the box.
        ignored_ids: (M,) values of regions in the map that are not looked at.
        ignored_boxes: (M, 6).
        stuff_ids: (S,) values of regions in the map that are no instances: only the semantic head hears of them.
        stuff_classes: (S,) int64, from K on.
    """

    labels: Tensor
    ids: Tensor
    boxes: Tensor
    classes: Tensor
    has_mask: Tensor
    ignored_ids: Tensor
    ignored_boxes: Tensor
    stuff_ids: Tensor
    stuff_classes: Tensor


def truth_of(labels: Tensor, classes: Tensor, flags: Tensor) -> Truth:
    """Boxes from the map as it is now, after all deformation.

    Args:
        labels: (D, H, W) integer instance map.
        classes: (L,) class of each value of the map, from 0; values beyond have class 0.
        flags: (L,) bits `BOX_ONLY`, `IGNORED` and `STUFF`; values beyond have masks.
    """
    ids, boxes = boxes_of_instances(labels)
    ids, boxes = ids.to(labels.device).long(), boxes.to(labels.device, torch.float32)
    flag, of_class = _looked_up(flags, ids), _looked_up(classes, ids)
    stuff = (flag & (STUFF | IGNORED)) == STUFF
    ignored = ((flag & IGNORED) > 0) | (_slivers(boxes, labels.shape) & ~stuff)
    told, has_mask = ~(ignored | stuff), (flag & BOX_ONLY) == 0
    return Truth(
        labels,
        ids[told],
        boxes[told],
        of_class[told],
        has_mask[told],
        ids[ignored],
        boxes[ignored],
        ids[stuff],
        of_class[stuff],
    )


def _slivers(boxes: Tensor, shape: Sequence[int]) -> Tensor:
    """(N,) bool: so little of it is left at a border of the image that nobody could say what it is."""
    size = torch.tensor(shape, dtype=boxes.dtype, device=boxes.device)
    cut = (boxes[:, :3] <= 0) | (boxes[:, 3:] >= size)
    return (cut & (boxes[:, 3:] - boxes[:, :3] < THINNEST)).any(1)


def assign_anchors(anchors: Tensor, per_level: Sequence[int], per_place: int, truth: Truth) -> Tensor:
    """Which instance each anchor is to propose (ATSS, Zhang et al., CVPR 2020).

    Candidates of an instance are the anchors nearest to its centre on each level; those are taken whose IoU reaches the
    mean + SD of the candidates' IoUs, and the best that nobody else has in any case. A fixed IoU of 0.7 would be hopeless in 3D: a cube of 6
    voxels shifted by one along each axis has 0.41. (MONAI's `ATSSMatcher` gives an instance no anchor at all where the
    best candidates are equally good: mean + SD of four times 0.7 and four times 0.1 is 0.72.)

    Args:
        anchors: (N, 6) of all levels.
        per_level: anchors of each level.
        per_place: anchors of one place.
        truth: of the image.

    Returns:
        (N,) index into the instances, -1 for background, -2 where nothing is to be learned.
    """
    count = len(truth.boxes)
    matched = torch.full((len(anchors),), NEGATIVE, device=anchors.device)
    if count:
        owners, chosen, values = _good_candidates(anchors, per_level, per_place, truth.boxes)
        best = torch.full((len(anchors),), -1.0, device=anchors.device).scatter_reduce(0, chosen, values, "amax")
        wins = values == best[chosen]  # of several instances that want an anchor, the one it overlaps most
        first = torch.full_like(matched, count).scatter_reduce(0, chosen[wins], owners[wins], "amin")
        matched = torch.where(first < count, first, matched)
        for instance in sorted(set(range(count)) - set(matched.unique().tolist())):  # its neighbours took them all
            overlap = iou_pairs(truth.boxes[instance].expand_as(anchors), anchors)
            matched[torch.where(matched < 0, overlap, -1.0).argmax()] = instance
    return _without_ignored(matched, anchors, truth)


def _good_candidates(
    anchors: Tensor, per_level: Sequence[int], per_place: int, boxes: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Instance, anchor and IoU of every pair of which ATSS approves; some instances at a time, for the memory."""
    owners, chosen, values = [], [], []
    middles = centres(anchors)
    for begin in range(0, len(boxes), AT_A_TIME):
        some = boxes[begin : begin + AT_A_TIME]
        distance = torch.cdist(centres(some), middles)
        parts, start = [], 0
        for count in per_level:
            nearest = distance[:, start : start + count].topk(min(count, CANDIDATES * per_place), largest=False)
            parts.append(nearest.indices + start)
            start += count
        candidates = torch.cat(parts, 1)
        pairs = some[:, None].expand(-1, candidates.shape[1], -1).reshape(-1, 6), anchors[candidates.flatten()]
        iou = iou_pairs(*pairs).reshape(candidates.shape)
        least = torch.minimum(iou.mean(1) + iou.std(1).nan_to_num(0.0), iou.amax(1))
        good = (iou >= least[:, None]) & (iou > 0)
        good[torch.arange(len(some)), iou.argmax(1)] = True
        owners.append(good.nonzero()[:, 0] + begin)
        chosen.append(candidates[good])
        values.append(iou[good])
    return torch.cat(owners), torch.cat(chosen), torch.cat(values)


def assign_proposals(boxes: Tensor, truth: Truth, *, positive: float, negative: float) -> Tensor:
    """(P,) index into the instances from IoU `positive` on, -1 below `negative`, -2 between and in ignored regions."""
    matched = torch.full((len(boxes),), NEGATIVE, device=boxes.device)
    if len(truth.boxes) and len(boxes):
        best, which = iou_matrix(boxes, truth.boxes).max(1)
        matched = torch.where(best >= negative, torch.full_like(matched, LEFT_OUT), matched)
        matched = torch.where(best >= positive, which, matched)
    return _without_ignored(matched, boxes, truth, negative)


def mask_targets(truth: Truth, instances: Tensor, boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Each box's instance as RoIAlign sees it: (R,) instances, (R, 6) boxes -> (R, *size) float32 in [0, 1].

    Of an instance known by its box alone, the part of the true box: 1 in cells whose centre it holds.
    Only the part of the map under a box is looked at; there is never a mask of the whole volume. Cells that are partly
    inside stay so: cut at 1/2 and pasted back, balls of 40 to 80 voxels would have an IoU of 0.95 to 0.97 with themselves.
    """
    out = boxes.new_zeros((len(boxes), *size))
    shape = torch.tensor(truth.labels.shape, device=boxes.device)
    for r, (instance, box) in enumerate(zip(instances.tolist(), boxes, strict=True)):
        if not truth.has_mask[instance]:
            out[r] = extent(truth.boxes[instance], box, size)
            continue
        low = torch.minimum((box[:3].floor().long() - 1).clamp(min=0), shape - 1).tolist()
        high = torch.minimum(box[3:].ceil().long() + 1, shape).tolist()
        crop = truth.labels[tuple(slice(a, max(b, a + 1)) for a, b in zip(low, high, strict=True))]
        mask = (crop == truth.ids[instance]).float()[None, None]
        shift = torch.tensor([*low, *low], dtype=torch.float32, device=boxes.device)
        roi = torch.cat([box.new_zeros(1), box - shift])[None]
        out[r] = roi_align_3d(mask, roi, tuple(size))[0, 0]
    return out


def extent(box: Tensor, seen: Tensor, size: Sequence[int]) -> Tensor:
    """The part of a box (6,) in another one (6,): (*size) 0 or 1 by the centres of cells."""
    inside = []
    for axis, cells in enumerate(size):
        place = seen[axis] + (torch.arange(cells, device=box.device) + 0.5) / cells * (seen[axis + 3] - seen[axis])
        inside.append(((place >= box[axis]) & (place < box[axis + 3])).float())
    return torch.einsum("i,j,k->ijk", *inside)


def semantic_target(truth: Truth) -> Tensor:
    """(D, H, W) int64: 0 background, class + 1, or -1 where nothing is known for certain."""
    highest = int(truth.labels.max()) if truth.labels.numel() else 0
    table = torch.zeros(highest + 1, dtype=torch.long, device=truth.labels.device)
    table[truth.ids] = torch.where(truth.has_mask, truth.classes + 1, -1)
    table[truth.stuff_ids] = truth.stuff_classes + 1
    table[truth.ignored_ids] = -1
    target = table[truth.labels.long()]
    for box in truth.boxes[~truth.has_mask].round().long().tolist():  # somewhere in its box, but nobody knows where
        target[tuple(slice(max(a, 0), b) for a, b in zip(box[:3], box[3:], strict=True))] = -1
    return target


def _looked_up(table: Tensor, ids: Tensor) -> Tensor:
    table = table.to(ids.device).long().flatten()
    known = ids < len(table)
    return torch.where(known, table[ids.clamp(max=max(len(table) - 1, 0))], 0) if len(table) else torch.zeros_like(ids)


def _without_ignored(matched: Tensor, boxes: Tensor, truth: Truth, overlap: float = 0.2) -> Tensor:
    """No negative where a box lies mostly in ignored voxels, or overlaps the box of an ignored region."""
    if not len(truth.ignored_ids) or not len(boxes):
        return matched
    inside = share_of_boxes(torch.isin(truth.labels.long(), truth.ignored_ids), boxes) > IGNORED_SHARE
    for box in truth.ignored_boxes:
        inside |= iou_pairs(boxes, box.expand_as(boxes)) >= overlap
    return torch.where(inside & (matched < 0), torch.full_like(matched, LEFT_OUT), matched)


def share_of_boxes(mask: Tensor, boxes: Tensor) -> Tensor:
    """Share of each box, rounded to voxels, that lies in a mask: (D, H, W) bool, (R, 6) -> (R,).

    By sums over all voxels before each corner (summed-area table, Crow, SIGGRAPH 1984).
    """
    sums = torch.zeros([n + 1 for n in mask.shape], dtype=torch.float64, device=mask.device)
    sums[1:, 1:, 1:] = mask.double().cumsum(0).cumsum(1).cumsum(2)
    shape = torch.tensor(mask.shape, device=boxes.device)
    low = torch.minimum(boxes[:, :3].round().long().clamp(min=0), shape)
    high = torch.minimum(boxes[:, 3:].round().long().clamp(min=0), shape)
    total = torch.zeros(len(boxes), dtype=torch.float64, device=boxes.device)
    for corner in range(8):
        upper = [bool(corner >> axis & 1) for axis in range(3)]
        i, j, k = ((high if up else low)[:, axis] for axis, up in enumerate(upper))
        total += sums[i, j, k] * (-1) ** (3 - sum(upper))
    return (total / (high - low).prod(1).clamp(min=1)).float()
