"""Overlap of regions as a loss: focal Tversky for any number of classes, and generalised Dice.

MONAI's `DiceLoss` and `TverskyLoss` are sound (for soft labels with `soft_label=True`) and can be named in
`CompoundLoss` as they are. What they lack is here: the focal exponent for more than two classes, and class weights and
partial labels with Tversky. MONAI 1.6.1's `GeneralizedDiceLoss` is 0 with no gradient in a patch without foreground,
whatever is predicted there; adds its 1e-5 to sums of 1 / volume, so that missing a structure of a million voxels costs
0.1; and has neither `ignore_index` nor weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medseg.losses.pair import PairLoss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.losses.pair import Pair


def overlap(probs: Tensor, truth: Tensor, *, batch: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over space (and the batch): shared, only predicted, only true; each (B, C), or (1, C) over the batch.

    What is shared is the smaller of the two: p t where t is 0 or 1, and for soft labels the form that is least where
    p = t (Wang et al., NeurIPS 2023).
    """
    axes = (0, *range(2, probs.ndim)) if batch else tuple(range(2, probs.ndim))
    both, found, true = (x.sum(axes) for x in (torch.minimum(probs, truth), probs, truth))
    if batch:
        both, found, true = both[None], found[None], true[None]
    return both, found - both, true - both


class FocalTverskyLoss(PairLoss):
    """(1 - Tversky index)^gamma of each class, mean over cases and classes (Abraham & Khan, ISBI 2019).

    The index is TP / (TP + alpha FP + beta FN). alpha = beta = 0.5 and gamma = 1 make the Dice loss, gamma = 1 alone
    Tversky's (Salehi et al., MLMI 2017).

    Args:
        alpha: weight of false positives.
        beta: weight of false negatives.
        gamma: exponent; below 1 nearly right classes count more, above 1 less. The paper's 4/3 is 0.75 here.
        batch: sum over the batch before dividing, as for classes that few patches hold.
        smooth: added to numerator and denominator, voxels.
        sigmoid, include_background, ignore_index, weight: see `PairLoss`.
    """

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 0.75,
        *,
        batch: bool = False,
        smooth: float = 1e-5,
        sigmoid: bool = False,
        include_background: bool | None = None,
        ignore_index: int | None = None,
        weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__(
            sigmoid=sigmoid, include_background=include_background, ignore_index=ignore_index, weight=weight
        )
        if min(alpha, beta) < 0 or gamma <= 0 or smooth <= 0:
            msg = f"alpha and beta at least 0, gamma and smooth above 0; got {alpha}, {beta}, {gamma}, {smooth}"
            raise ValueError(msg)
        self.alpha = alpha
        self.beta = beta
        self.gamma = gamma
        self.batch = batch
        self.smooth = smooth

    def of(self, pair: Pair) -> Tensor:
        """See `PairLoss`."""
        counted = pair.counted(self.include_background)
        both, extra, missed = overlap(counted.probs, counted.truth, batch=self.batch)
        missing = 1 - (both + self.smooth) / (both + self.alpha * extra + self.beta * missed + self.smooth)
        if self.gamma != 1:  # at 0 the power's slope may be infinite: there it is held flat
            missing = missing.clamp(min=1e-7) ** self.gamma
        return self.mean(missing, counted.classes)


class GeneralizedDiceLoss(PairLoss):
    """1 - Dice of all classes together, each counted by 1 / volume^2 (Sudre et al., DLMIA 2017).

    A class that a case does not hold counts like its smallest; in a case that holds none, all count alike, so that what
    is predicted there is still wrong.

    Args:
        batch: volumes and sums of the batch, not of each case.
        smooth: added to numerator and denominator, voxels of the smallest class.
        sigmoid, include_background, ignore_index, weight: see `PairLoss`; `weight` multiplies 1 / volume^2.
    """

    def __init__(
        self,
        *,
        batch: bool = False,
        smooth: float = 1e-5,
        sigmoid: bool = False,
        include_background: bool | None = None,
        ignore_index: int | None = None,
        weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__(
            sigmoid=sigmoid, include_background=include_background, ignore_index=ignore_index, weight=weight
        )
        self.batch = batch
        self.smooth = smooth

    def of(self, pair: Pair) -> Tensor:
        """See `PairLoss`."""
        counted = pair.counted(self.include_background)
        both, extra, missed = overlap(counted.probs, counted.truth, batch=self.batch)
        volume = (both + missed).detach()
        absent = volume <= 0
        # Volumes relative to the smallest: 1 / volume^2 itself leaves float32's comfort, and only ratios matter.
        smallest = torch.where(absent, torch.inf, volume).amin(1, keepdim=True)
        weights = torch.where(absent, 1.0, (smallest / volume.clamp(min=1e-12)) ** 2)
        weights = torch.where(absent.all(1, keepdim=True), 1.0, weights)
        weights = weights * self.class_weights(counted.classes, volume)
        top = (2 * both * weights).sum(1) + self.smooth
        return (1 - top / (((2 * both + extra + missed) * weights).sum(1) + self.smooth)).mean()
