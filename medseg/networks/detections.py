"""What a network that finds instances returns for one image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in one image.

    Args:
        boxes: (N, 6).
        scores: (N,) in [0, 1].
        classes: (N,) int64, from 0.
        masks: probabilities inside each box, (N, d, h, w), or a list of N where they are refined box by box.
        stuff: (D, H, W) uint8, class + 1 of voxels whose class has no instances, else 0 (`heads.stuff_of`); None where
            the network knows no such class.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    masks: Tensor | list[Tensor]
    stuff: Tensor | None = None
