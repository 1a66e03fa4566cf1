"""Masks of instances as crops: how they overlap, and suppression by their voxels instead of their boxes.

A crop is a mask cut to its box and the voxel where that box begins: 400 instances in a 256^3 volume take a few MiB, where
one full volume for each takes 6.7 GB. Overlaps are counted inside the common part of two boxes only.

Boxes of long neighbours overlap though the objects do not (ribs, vessels, muscle fibres): their masks share no voxel, so
suppression by mask keeps both where suppression by box deletes one. Intersection over the smaller mask (IoM) finds what
IoU misses, a fragment inside a whole.

Worked example: a crop of 2 x 1 x 3 voxels, all set, at (0, 0, 0) and one of 2 x 1 x 2 at (0, 0, 2) share the two voxels
[0, 0, 2] and [1, 0, 2]: IoU 2 / (6 + 4 - 2) = 0.25, IoM 2 / 4 = 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from medseg.boxes.convention import boxes_of_instances
from medseg.boxes.nms import by_score
from medseg.jit import kernel

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, eq=False)
class Crop:
    """A mask in a small array of its own.

    Args:
        low: the voxel of the volume where `mask` begins; may lie outside the volume.
        mask: (d, h, w) bool.
    """

    low: tuple[int, int, int]
    mask: Tensor

    def __post_init__(self) -> None:
        if self.mask.ndim != 3 or self.mask.dtype != torch.bool:
            msg = f"the mask of a crop is (d, h, w) bool, got {tuple(self.mask.shape)} {self.mask.dtype}"
            raise ValueError(msg)
        i, j, k = (int(x) for x in self.low)
        object.__setattr__(self, "low", (i, j, k))

    @property
    def box(self) -> Tensor:
        """(6,) float32 edges of the crop (of its array, not of the voxels that are set)."""
        return torch.tensor([*self.low, *(a + n for a, n in zip(self.low, self.mask.shape, strict=True))]).float()

    @property
    def voxels(self) -> int:
        """How many are set."""
        return int(self.mask.count_nonzero())


def crops_of_instances(labels: Tensor) -> tuple[Tensor, list[Crop]]:
    """The instances of a map (D, H, W) as crops: ids (N,) int64, rising, and N crops."""
    ids, boxes = boxes_of_instances(labels)
    crops = []
    for value, (a, b, c, x, y, z) in zip(ids.tolist(), boxes.long().tolist(), strict=True):
        crops.append(Crop((a, b, c), labels[a:x, b:y, c:z] == value))
    return ids, crops


def crop_iou_matrix(a: Sequence[Crop], b: Sequence[Crop] | None = None) -> Tensor:
    """(N, M) float64 intersection over union of the masks of a and b (None: of a with itself); 0 for empty masks."""
    shared, of_a, of_b = _overlaps(a, b)
    return _ratio(shared, of_a[:, None] + of_b[None] - shared)


def crop_iom_matrix(a: Sequence[Crop], b: Sequence[Crop] | None = None) -> Tensor:
    """(N, M) float64 intersection over the smaller mask of a and b (None: of a with itself); 0 for empty masks."""
    shared, of_a, of_b = _overlaps(a, b)
    return _ratio(shared, torch.minimum(of_a[:, None], of_b[None]))


def suppress_by_mask(
    crops: Sequence[Crop],
    scores: Tensor,
    *,
    iou: float | None = 0.5,
    iom: float | None = None,
    classes: Tensor | None = None,
) -> Tensor:
    """Indices of the masks that are kept, visited by falling score, ties by index.

    Args:
        crops: N masks. One without voxels overlaps nothing and so is kept.
        scores: (N,).
        iou: a mask is dropped when its IoU with a kept one is greater; None: not asked.
        iom: the same for intersection over the smaller of the two.
        classes: (N,) integers; masks of different classes never suppress each other. None: all are of one class.

    Returns:
        (K,) int64 where `scores` is, by falling score.

    Raises:
        ValueError: shapes do not fit.
    """
    for given in [scores] if classes is None else [scores, classes]:
        if given.shape != (len(crops),):
            msg = f"{len(crops)} crops need one score (and class) each, got {tuple(given.shape)}"
            raise ValueError(msg)
    order = by_score(scores)
    voxels, place = _packed([crops[i] for i in order.tolist()])
    kind = np.zeros(len(crops), np.int64) if classes is None else classes.cpu()[order].long().numpy()
    keep = np.zeros(len(crops), np.bool_)
    _sweep(voxels, place, kind, np.inf if iou is None else iou, np.inf if iom is None else iom, keep)
    return order[torch.from_numpy(keep)].to(scores.device)


def _overlaps(a: Sequence[Crop], b: Sequence[Crop] | None) -> tuple[Tensor, Tensor, Tensor]:
    """Shared voxels (N, M), and the sizes (N,) and (M,), as float64."""
    voxels, place = _packed([*a, *(b or [])])
    first, second = place[: len(a)], place[len(a) :] if b is not None else place
    shared = np.zeros((len(first), len(second)), np.int64)
    _count(voxels, first, second, b is None, shared)
    counted = (torch.from_numpy(x).double() for x in (shared, first[:, 7].copy(), second[:, 7].copy()))
    return tuple(counted)  # type: ignore[return-value]


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    return part / whole.clamp(min=1)  # counts: where the whole is 0, so is the part


def _packed(crops: Sequence[Crop]) -> tuple[np.ndarray, np.ndarray]:
    """All voxels end to end (uint8), and (N, 8): where a crop begins in them, its low, its shape, its voxels set."""
    masks = [np.ascontiguousarray(crop.mask.detach().cpu().numpy()) for crop in crops]
    place = np.zeros((len(crops), 8), np.int64)
    for row, crop, mask in zip(place, crops, masks, strict=True):
        row[1:4], row[4:7], row[7] = crop.low, mask.shape, np.count_nonzero(mask)
    place[1:, 0] = np.cumsum([mask.size for mask in masks])[:-1]
    voxels = np.concatenate([mask.ravel() for mask in masks]) if masks else np.empty(0, np.bool_)
    return voxels.view(np.uint8), place


@kernel
def _common(voxels, p, q):
    """Voxels that are set in both crops p and q (rows of `place`)."""
    i0, i1 = max(p[1], q[1]), min(p[1] + p[4], q[1] + q[4])
    j0, j1 = max(p[2], q[2]), min(p[2] + p[5], q[2] + q[5])
    k0, k1 = max(p[3], q[3]), min(p[3] + p[6], q[3] + q[6])
    total = 0
    if i0 >= i1 or j0 >= j1 or k0 >= k1:
        return total
    for i in range(i0, i1):
        for j in range(j0, j1):
            a = p[0] + ((i - p[1]) * p[5] + j - p[2]) * p[6] + k0 - p[3]
            b = q[0] + ((i - q[1]) * q[5] + j - q[2]) * q[6] + k0 - q[3]
            for k in range(k1 - k0):
                total += voxels[a + k] & voxels[b + k]
    return total


@kernel
def _count(voxels, first, second, same, shared):
    for a in range(len(first)):
        for b in range(a if same else 0, len(second)):
            shared[a, b] = _common(voxels, first[a], second[b])
            if same:
                shared[b, a] = shared[a, b]


@kernel
def _sweep(voxels, place, kind, iou, iom, keep):
    """Flag what is kept; crops come by falling score."""
    for b in range(len(place)):
        good = True
        for a in range(b):
            if not keep[a] or kind[a] != kind[b]:
                continue
            shared = _common(voxels, place[a], place[b])
            if shared > 0:
                of_a, of_b = place[a, 7], place[b, 7]
                if shared / (of_a + of_b - shared) > iou or shared / min(of_a, of_b) > iom:
                    good = False
                    break
        keep[b] = good
