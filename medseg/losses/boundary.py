"""The boundary loss in mm (Kervadec et al., MIDL 2019), from distance maps that were computed once per case."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.losses.pair import PairLoss

if TYPE_CHECKING:
    from torch import Tensor

    from medseg.losses.pair import Pair


class BoundaryLoss(PairLoss):
    """Mean of probability times signed distance, mm: what is predicted far outside costs most, far inside pays most.

    The loss takes `medseg.transforms.DistanceMapsd`'s maps behind the target's label, and costs one product. It has no
    lower limit of 0, and where a case holds nothing of a class it says nothing: add it to a region's loss with a small
    weight (`CompoundLoss`).

    MONAI 1.6.1's computes distances in voxels, whatever their spacing, at every step; and it takes one voxel off inside
    (as the paper's code does), so that the outermost layer of a structure weighs nothing and is not learned, while the
    layer outside weighs 1. Here both layers weigh their distance to each other.

    Args:
        sigmoid, include_background, ignore_index, weight: see `PairLoss`.
    """

    takes_maps = True

    def of(self, pair: Pair) -> Tensor:
        """See `PairLoss`."""
        counted = pair.counted(self.include_background)
        assert pair.maps is not None
        each = (counted.probs * pair.maps).flatten(2).sum(2) / counted.voxels()
        return self.mean(each, counted.classes)
