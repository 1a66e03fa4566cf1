"""A loss of region channels, for batches that carry a label map.

Deformation votes on label maps and deep supervision thins them out; both are cheaper and exact on one map of values. So
regions are made at the very last, in front of the loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from medseg.transforms.regions import to_regions
from medseg.transforms.shares import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class RegionLoss(nn.Module):
    """Any loss with sigmoids, given a label map instead of region channels.

    Args:
        loss: takes logits (B, R, D, H, W) and regions of the same shape.
        regions: label values that each region holds, in the order of the logits.
        ignore: label value of voxels that count nowhere: they become -1 in every region, and the loss has
            `ignore_index` -1. None: there is none.
    """

    def __init__(
        self,
        loss: Callable[[Tensor, Tensor], Tensor],
        regions: Sequence[Sequence[int]],
        ignore: int | None = None,
    ) -> None:
        super().__init__()
        self.loss = loss
        self.regions = tuple(tuple(int(v) for v in parts) for parts in regions)
        self.ignore = ignore

    def forward(self, input: Tensor, target: Tensor) -> Tensor:  # noqa: A002 - MONAI's name
        """Logits (B, R, D, H, W) and a label map (B, 1, D, H, W) -> what the loss says."""
        regions = to_regions(target, self.regions, axis=1)
        if self.ignore is not None:
            regions = regions.masked_fill(target == self.ignore, UNKNOWN)
        return self.loss(input, regions)
