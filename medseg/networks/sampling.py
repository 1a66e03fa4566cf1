"""Which anchors and proposals a step learns from: nearly all are background, and most of it is easy."""

from __future__ import annotations

import torch
from torch import Tensor

# Anchors of an image, and at most this share of them are positive.
ANCHORS = 64
POSITIVE_SHARE = 1 / 3
# Negatives are drawn from so many times as many, those that look most like objects.
POOL = 10
LEAST_NEGATIVES = 8
# Boxes near each true one, and the SD of their edges as a share of its size.
NEAR, NEAR_SD = 4, 0.08


def anchor_sample(matched: Tensor, logits: Tensor, count: int = ANCHORS) -> Tensor:
    """Positives, and hard negatives (nnDetection, Baumgartner et al., MICCAI 2021).

    MONAI's `HardNegativeSampler` takes 1 negative where there is no positive; an image without objects teaches then
    nearly nothing.

    Args:
        matched: (N,) index of an instance, -1 for background, others are not taken.
        logits: (N,) objectness.
        count: how many to take.

    Returns:
        Indices, positives first.
    """
    positive = _draw((matched >= 0).nonzero()[:, 0], max(1, int(count * POSITIVE_SHARE)))
    background = (matched == -1).nonzero()[:, 0]
    wanted = max(LEAST_NEGATIVES, round(len(positive) * (1 / POSITIVE_SHARE - 1)))
    pool = logits[background].topk(min(len(background), wanted * POOL)).indices
    return torch.cat([positive, _draw(background[pool], wanted)])


def proposal_sample(owners: Tensor, count: int) -> Tensor:
    """Up to a third positives, the rest drawn from the background; `owners` as `matched` above."""
    positive = _draw((owners >= 0).nonzero()[:, 0], max(1, int(count * POSITIVE_SHARE)))
    return torch.cat([positive, _draw((owners == -1).nonzero()[:, 0], count - len(positive))])


def jittered(boxes: Tensor) -> Tensor:
    """Boxes near true ones: (N, 6) -> (4 N, 6), each edge moved by a normal deviate of 8 % of the box's size."""
    size = (boxes[:, 3:] - boxes[:, :3]).repeat(NEAR, 2)
    return boxes.repeat(NEAR, 1) + torch.randn_like(size).clamp(-3, 3) * NEAR_SD * size


def _draw(indices: Tensor, count: int) -> Tensor:
    order = torch.randperm(len(indices), device=indices.device)[:count]
    return indices[order]
