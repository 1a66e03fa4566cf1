"""A loss of region channels, for batches that carry a label map.

Deformation votes on label maps and deep supervision thins them out; both are cheaper and exact on one map of values. So
regions are made at the very last, in front of the loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from medseg.transforms.regions import to_regions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class RegionLoss(nn.Module):
    """Any loss with sigmoids, given a label map instead of region channels.

    Args:
        loss: takes logits (B, R, D, H, W) and regions of the same shape.
        regions: label values that each region holds, in the order of the logits.
    """

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor], regions: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.loss = loss
        self.regions = tuple(tuple(int(v) for v in parts) for parts in regions)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:  # noqa: A002 - MONAI's name
        """Logits (B, R, D, H, W) and a label map (B, 1, D, H, W) -> what the loss says."""
        return self.loss(input, to_regions(target, self.regions, axis=1))
