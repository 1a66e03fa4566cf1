"""clDice (Shit et al., CVPR 2021): do the centre lines of thin tubes lie inside each other's tube?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.losses.pair import PairLoss
from medseg.losses.skeleton import soft_skeleton

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from medseg.losses.pair import Pair


class ClDiceLoss(PairLoss):
    """1 - clDice of each class, mean over cases and classes. Add it to a region's loss (`CompoundLoss`).

    For one class it is MONAI 1.6.1's `SoftclDiceLoss` many times faster. For several MONAI adds their skeletons up
    before it divides, so that a thin vessel beside a large organ counts next to nothing; here each class counts. The
    third constant of MONAI's, which keeps the loss of a perfect prediction off 0, is not here: nothing divides by 0.

    Args:
        iterations: of the skeleton, at least the tubes' largest radius in voxels.
        smooth: added to the numerator and denominator of both shares, voxels.
        sigmoid, include_background, ignore_index, weight: see `PairLoss`. Voxels that are not known are empty on both
            sides.
    """

    def __init__(
        self,
        iterations: int = 3,
        smooth: float = 1.0,
        *,
        sigmoid: bool = False,
        include_background: bool | None = None,
        ignore_index: int | None = None,
        weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__(
            sigmoid=sigmoid, include_background=include_background, ignore_index=ignore_index, weight=weight
        )
        if iterations < 0 or smooth <= 0:
            msg = f"iterations at least 0 and smooth above 0, got {iterations} and {smooth}"
            raise ValueError(msg)
        self.iterations = iterations
        self.smooth = smooth

    def of(self, pair: Pair) -> Tensor:
        """See `PairLoss`."""
        counted = pair.counted(self.include_background)
        probs, truth = counted.probs, counted.truth
        precision = self._inside(soft_skeleton(probs, self.iterations), truth)
        sensitivity = self._inside(soft_skeleton(truth, self.iterations), probs)
        return self.mean(1 - 2 * precision * sensitivity / (precision + sensitivity), counted.classes)

    def _inside(self, skeleton: Tensor, tube: Tensor) -> Tensor:
        """(B, C) the share of a skeleton that lies in a tube."""
        inside, whole = (skeleton * tube).flatten(2).sum(2), skeleton.flatten(2).sum(2)
        return (inside + self.smooth) / (whole + self.smooth)
