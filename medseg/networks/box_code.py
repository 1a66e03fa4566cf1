"""How a network says where a box is, seen from another box (Girshick et al., CVPR 2014).

    centre = reference centre + delta x reference size        size = reference size x exp(log-scale)

Worked example on one axis: from the reference [2, 6) the code (0.25, log 2) is centre 4 + 0.25 * 4 = 5, size 8: [1, 9).
MONAI's `BoxCoder` raises where a box is empty or a number not finite; during training that must not end the run.
"""

from __future__ import annotations

from math import log

import torch
from torch import Tensor

# A step never enlarges a box more than this.
LARGEST_SCALE = 16.0
SMALLEST = 1e-3


def encode(boxes: Tensor, references: Tensor) -> Tensor:
    """(N, 6) boxes seen from (N, 6) references -> (N, 6): centre deltas, then log-scales."""
    (centre, size), (from_centre, from_size) = _centre_size(boxes), _centre_size(references)
    return torch.cat([(centre - from_centre) / from_size, (size / from_size).log()], -1)


def decode(codes: Tensor, references: Tensor) -> Tensor:
    """The inverse of `encode`: (N, 6) codes and references -> (N, 6) boxes, float32."""
    from_centre, from_size = _centre_size(references)
    delta, scale = codes.float().split(3, -1)
    centre = from_centre + delta * from_size
    half = from_size * scale.clamp(max=log(LARGEST_SCALE)).exp() / 2
    return torch.cat([centre - half, centre + half], -1)


def _centre_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    low, high = boxes.float().split(3, -1)
    return (low + high) / 2, (high - low).clamp(min=SMALLEST)
