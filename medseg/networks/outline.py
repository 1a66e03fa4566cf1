"""Which of many boxes are outlined: none whose object a better one has outlined already.

An object of ten voxels across has a dozen boxes whose IoU is below any threshold that spares true neighbours, and masks are
what takes time. So the best boxes that stand apart are outlined first. A lesser box that overlaps one of them and holds
nearly all of its mask is about the same object and goes; all others are outlined in the next round. Boxes of parallel
neighbours overlap as much, but each holds only a part of the other's mask. (Where a network's masks run into those of
neighbours, it may hold nearly all of one, and goes.)

Worked example, in a plane: an object along the diagonal of [0, 10] x [0, 10] and its neighbour, shifted by (3, -3). The
neighbour's box [3, 13] x [-3, 7] holds the first one's mask from (3, 3) to (7, 7), less than half: it is outlined. The
box [1, 11] x [0, 10] holds nine tenths of that mask: it is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from medseg.boxes.nms import nms
from medseg.boxes.overlap import iou_matrix

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

# Boxes of one round overlap less.
APART = 0.3
# From here on a lesser box may be about the same object, and is where it holds this share of the better one's mask.
SAME_BOX, HELD = 0.4, 0.85


def outline(boxes: Tensor, scores: Tensor, masks: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Outline boxes, best first, and leave out those about an object that is outlined already.

    Args:
        boxes: (N, 6).
        scores: (N,) falling.
        masks: logits (K, d, h, w) inside the boxes of the given indices (K,).

    Returns:
        Indices (K,) int64, rising, of the boxes that were outlined, and the logits (K, d, h, w).
    """
    left = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    rounds: list[tuple[Tensor, Tensor]] = []
    while left.any() or not rounds:
        open_ = left.nonzero()[:, 0]
        best = open_[nms(boxes[open_], scores[open_], APART)].sort().values
        logits = masks(best)
        rounds.append((best, logits))
        left[best] = False
        open_ = left.nonzero()[:, 0]
        if len(open_):
            left[open_[_told(boxes, open_, best, logits.sigmoid()).any(1)]] = False
    kept = torch.cat([indices for indices, _ in rounds])
    order = kept.argsort()
    return kept[order], torch.cat([logits for _, logits in rounds])[order]


def _told(boxes: Tensor, open_: Tensor, best: Tensor, masks: Tensor) -> Tensor:
    """(O, B) bool: whether a box is lesser than a better one, overlaps it and holds its mask."""
    told = (iou_matrix(boxes[open_], boxes[best]) >= SAME_BOX) & (open_[:, None] > best[None])
    for n in told.any(0).nonzero()[:, 0].tolist():
        which = told[:, n].nonzero()[:, 0]
        told[which, n] = share_held(masks[n], boxes[best[n]], boxes[open_[which]]) >= HELD
    return told


def share_held(mask: Tensor, box: Tensor, others: Tensor) -> Tensor:
    """Which share of a mask lies inside other boxes.

    Args:
        mask: (d, h, w) >= 0 in the cells of its box.
        box: (6,).
        others: (N, 6).

    Returns:
        (N,) in [0, 1]; 0 for an empty mask.
    """
    whole = mask.float()
    covered = []
    for axis, cells in enumerate(mask.shape):
        edges = torch.linspace(0, 1, cells + 1, device=mask.device) * (box[axis + 3] - box[axis]) + box[axis]
        low, high = others[:, axis, None], others[:, axis + 3, None]
        inside = (torch.minimum(high, edges[1:]) - torch.maximum(low, edges[:-1])).clamp(min=0)
        covered.append(inside / (edges[1:] - edges[:-1]))
    held = torch.einsum("dhw,nd,nh,nw->n", whole, *covered)
    return held / whole.sum().clamp(min=torch.finfo(torch.float32).tiny)
