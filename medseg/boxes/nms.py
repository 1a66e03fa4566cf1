"""Hard non-maximum suppression: of boxes that overlap too much, the one with the highest score stays.

Boxes are visited by falling score, equal scores in the order given. A box that no box before it has claimed is kept and
claims all later ones whose IoU with it is greater than the threshold. Arithmetic is float32 step by step (float64 for
float64 boxes), so that the indices are those of MONAI's `non_max_suppression`; the sweep is compiled and runs on the
CPU whatever the device, which for the few thousand boxes of a level costs less than a matrix on a GPU and its way back.

Box overlap is a poor judge of elongated neighbours: two parallel ellipsoids at 45 degrees that do not touch have a box
IoU of 0.4 at an aspect of 4. Choose a loose threshold (0.5 to 0.7) and let `crops.suppress_by_mask` decide.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medseg.boxes.convention import volumes
from medseg.jit import kernel


def nms(boxes: Tensor, scores: Tensor, threshold: float, *, limit: int | None = None) -> Tensor:
    """Indices of the boxes that are kept.

    Args:
        boxes: (N, 6). A box with a NaN edge overlaps nothing and so is kept.
        scores: (N,).
        threshold: a box is dropped when its IoU with a kept one is greater.
        limit: stop after so many kept boxes.

    Returns:
        (K,) int64 where `boxes` is, by falling score, ties by index.

    Raises:
        ValueError: shapes do not fit.
    """
    order, owner = claims(boxes, scores, threshold, limit=limit)
    kept = order[owner == torch.arange(len(owner))]
    return kept[:limit].to(boxes.device)


def nms_by_class(
    boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float, *, limit: int | None = None
) -> Tensor:
    """`nms` within each class: boxes of different classes never suppress each other.

    Coordinates are left as they are (moving each class to a place of its own, the usual trick, rounds them).

    Args:
        boxes: (N, 6).
        scores: (N,).
        classes: (N,) integers.
        threshold: see `nms`.
        limit: keep at most so many, over all classes.

    Returns:
        (K,) int64 where `boxes` is, by falling score over all classes, ties by index.

    Raises:
        ValueError: shapes do not fit.
    """
    check(boxes, scores, classes)
    place, rank = classes.cpu(), torch.empty(len(boxes), dtype=torch.int64)
    rank[by_score(scores)] = torch.arange(len(boxes))
    kept = [torch.empty(0, dtype=torch.int64)]
    for value in place.unique():
        index = (place == value).nonzero()[:, 0]
        here = index.to(boxes.device)
        kept.append(index[nms(boxes[here], scores[here], threshold, limit=limit).cpu()])
    joined = torch.cat(kept)
    return joined[rank[joined].argsort()][:limit].to(boxes.device)


def claims(boxes: Tensor, scores: Tensor, threshold: float, *, limit: int | None = None) -> tuple[Tensor, Tensor]:
    """Which box claims which.

    Args:
        boxes: (N, 6).
        scores: (N,).
        threshold: a box is claimed by the first kept box with which its IoU is greater.
        limit: stop after so many kept boxes.

    Returns:
        order (N,) int64 on the CPU, the boxes by falling score, and owner (N,) int64 on the CPU: for the n-th box of
        that order the place in that order of the box that claims it, n itself if it is kept, -1 beyond the limit.
    """
    check(boxes, scores)
    order = by_score(scores)
    wide = torch.float64 if boxes.dtype == torch.float64 else torch.float32
    ordered = boxes.detach().to("cpu", wide)[order]
    owner = np.full(len(ordered), -1, np.int64)
    edges, volume = ordered.T.contiguous().numpy(), volumes(ordered).numpy()
    most = len(owner) if limit is None else limit
    _claim(edges, volume, edges.dtype.type(threshold), most, owner)
    return order, torch.from_numpy(owner)


def by_score(scores: Tensor) -> Tensor:
    """(N,) int64 on the CPU: indices by falling score, ties by index."""
    return scores.detach().cpu().argsort(descending=True, stable=True)


def check(boxes: Tensor, *others: Tensor) -> None:
    """Refuse boxes that are not (N, 6) and whatever is not (N,).

    Raises:
        ValueError: with the shapes.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 6:
        msg = f"boxes are (N, 6): low, low, low, high, high, high; got {tuple(boxes.shape)}"
        raise ValueError(msg)
    if wrong := [tuple(other.shape) for other in others if other.shape != boxes.shape[:1]]:
        msg = f"{len(boxes)} boxes need one score (and class) each, got {wrong[0]}"
        raise ValueError(msg)


@kernel
def _claim(edges, volume, threshold, most, owner):
    """Fill `owner`; edges is (6, N).

    Shared volumes go through memory on purpose: in one expression a compiler may fuse the subtraction below with the
    last product and skip its rounding, and now and then land on the other side of the threshold than MONAI.
    """
    n, kept = len(owner), 0
    shared = np.empty(n, edges.dtype)
    for a in range(n):
        if owner[a] >= 0:
            continue
        if kept == most:
            return
        owner[a] = a
        kept += 1
        _share(edges, a, shared[a + 1 :])
        for b in range(a + 1, n):
            if shared[b] > 0 and owner[b] < 0 and shared[b] / (volume[a] + volume[b] - shared[b]) > threshold:
                owner[b] = a


@kernel
def _share(edges, a, shared):
    """Shared volume of box a with each box after it; slices let the loop compile to vector instructions."""
    i0, j0, k0, i1, j1, k1 = edges[0, a], edges[1, a], edges[2, a], edges[3, a], edges[4, a], edges[5, a]
    i_low, j_low, k_low = edges[0, a + 1 :], edges[1, a + 1 :], edges[2, a + 1 :]
    i_high, j_high, k_high = edges[3, a + 1 :], edges[4, a + 1 :], edges[5, a + 1 :]
    zero = edges.dtype.type(0)
    for b in range(len(shared)):
        x = min(i1, i_high[b]) - max(i0, i_low[b])
        y = min(j1, j_high[b]) - max(j0, j_low[b])
        z = min(k1, k_high[b]) - max(k0, k_low[b])
        shared[b] = max(zero, x) * max(zero, y) * max(zero, z)
