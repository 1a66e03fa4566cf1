"""Soft suppression: what overlaps a better box is not deleted, its score falls.

Soft-NMS (Bodla et al., ICCV 2017): take the box M with the highest score left, then multiply the score of every other
box left by a factor of its IoU with M, and go on until no score reaches the least one asked for:

    linear     1 - IoU where IoU > threshold, else 1
    gaussian   exp(-IoU^2 / sigma)

Worked example: A = (0, 0, 0, 4, 4, 4) with score 0.9 and B = (2, 0, 0, 6, 4, 4) with 0.8 have IoU 1/3. Linear above a
threshold of 0.3, B falls to 0.8 x 2/3 = 0.533; Gaussian with sigma 0.5 to 0.8 x exp(-2/9) = 0.641.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from medseg.boxes.convention import volumes
from medseg.boxes.nms import check
from medseg.jit import kernel


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    *,
    decay: Literal["linear", "gaussian"] = "linear",
    threshold: float = 0.3,
    sigma: float = 0.5,
    min_score: float = 0.001,
) -> tuple[Tensor, Tensor]:
    """Lower the scores of boxes that overlap better ones.

    Args:
        boxes: (N, 6).
        scores: (N,) >= 0.
        decay: how scores fall, see above.
        threshold: IoU above which a linear decay begins; the Gaussian one has none.
        sigma: width of the Gaussian decay.
        min_score: boxes that end below are left out.

    Returns:
        keep (K,) int64 by falling new score, ties by index, and the new scores (K,), both where `boxes` is.

    Raises:
        ValueError: shapes do not fit, the decay is unknown, or sigma is not positive.
    """
    check(boxes, scores)
    if decay not in ("linear", "gaussian") or sigma <= 0:
        msg = f"decay is 'linear' or 'gaussian' and sigma > 0, got {decay!r} and {sigma}"
        raise ValueError(msg)
    wide = boxes.detach().cpu().double()
    left, keep = scores.detach().cpu().double().numpy().copy(), np.empty(len(boxes), np.int64)
    edges, volume = wide.T.contiguous().numpy(), volumes(wide).numpy()
    count = _soften(edges, volume, left, decay == "linear", threshold, sigma, min_score, keep)
    kept = torch.from_numpy(keep[:count])
    return kept.to(boxes.device), torch.from_numpy(left)[kept].to(scores)


@kernel
def _soften(edges, volume, score, linear, threshold, sigma, least, keep):
    """Fill `keep` and lower `score` in place; returns how many are kept."""
    n, count = len(score), 0
    free = np.ones(n, np.bool_)
    while count < n:
        best = -1
        for b in range(n):
            if free[b] and score[b] >= least and (best < 0 or score[b] > score[best]):
                best = b
        if best < 0:
            break
        free[best] = False
        keep[count] = best
        count += 1
        for b in range(n):
            if not free[b]:
                continue
            x = min(edges[3, best], edges[3, b]) - max(edges[0, best], edges[0, b])
            y = min(edges[4, best], edges[4, b]) - max(edges[1, best], edges[1, b])
            z = min(edges[5, best], edges[5, b]) - max(edges[2, best], edges[2, b])
            if not (x > 0 and y > 0 and z > 0):
                continue
            iou = x * y * z / (volume[best] + volume[b] - x * y * z)
            if not linear:
                score[b] *= np.exp(-iou * iou / sigma)
            elif iou > threshold:
                score[b] *= 1 - iou
    return count
