"""Cross-entropy and focal loss for labels that are smoothed, soft, ignored in part, or regions.

torch's `cross_entropy` has no `ignore_index` for soft labels. MONAI 1.6.1's `DiceCELoss` has none at all and takes the
softmax of regions although `sigmoid` is set; its `FocalLoss` takes the softmax over the foreground alone when the
background is not included, and is C times larger as soon as an `ignore_index` is given; its `DiceFocalLoss` takes the
sigmoid although `softmax` is set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import logsigmoid

from medseg.losses.pair import PairLoss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from medseg.losses.pair import Pair


class CrossEntropyLoss(PairLoss):
    """Cross-entropy over all classes; binary cross-entropy of each region with `sigmoid`.

    With hard or smoothed labels and weights it is torch's, a mean weighted by the voxels' classes; for regions the mean
    over voxels and regions, weighted by region.

    Args:
        label_smoothing: the part of each voxel's truth that is spread evenly over the classes (over yes and no).
        gamma: 0, or at least 1: each term counts |truth - probability|^gamma times (Lin et al., ICCV 2017; for soft
            labels Li et al., NeurIPS 2020), so that voxels which are right already teach less.
        sigmoid, ignore_index, weight: see `PairLoss`.
    """

    def __init__(
        self,
        label_smoothing: float = 0.0,
        gamma: float = 0.0,
        *,
        sigmoid: bool = False,
        ignore_index: int | None = None,
        weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__(sigmoid=sigmoid, include_background=True, ignore_index=ignore_index, weight=weight)
        if not 0 <= label_smoothing < 1:
            msg = f"label_smoothing lies in [0, 1), got {label_smoothing}"
            raise ValueError(msg)
        if gamma != 0 and gamma < 1:
            msg = f"gamma is 0 or at least 1, got {gamma}: below, the gradient of a perfect voxel is infinite"
            raise ValueError(msg)
        self.label_smoothing = label_smoothing
        self.gamma = gamma

    def of(self, pair: Pair) -> Tensor:
        """See `PairLoss`."""
        truth, known, smoothing = pair.truth, pair.known, self.label_smoothing
        weights = self.class_weights(pair.classes, truth).view(-1, *[1] * (truth.ndim - 2))
        if pair.sigmoid:
            smooth = truth * (1 - smoothing) + smoothing / 2
            each = -smooth * logsigmoid(pair.logits) - (1 - smooth) * logsigmoid(-pair.logits)
            counts = weights.expand_as(truth)
            counts = counts if known is None else counts * known
            if self.gamma:
                each = each * (smooth - pair.logits.sigmoid()).abs() ** self.gamma
            return (each * counts).sum() / _at_least_tiny(counts.sum())
        log_probs = pair.logits.log_softmax(1)
        spread = smoothing / truth.shape[1]
        smooth = truth if not smoothing else truth * (1 - smoothing) + (spread if known is None else spread * known)
        each = -smooth * log_probs
        if self.gamma:
            each = each * (smooth - log_probs.exp()).abs() ** self.gamma
        if self.weight is None:
            return each.sum() / _at_least_tiny(truth.sum())
        return (each * weights).sum() / _at_least_tiny((truth * weights).sum())


class FocalLoss(CrossEntropyLoss):
    """Cross-entropy where what is right already counts less; see `CrossEntropyLoss`.

    Args:
        gamma: at least 1.
        label_smoothing, sigmoid, ignore_index, weight: see `CrossEntropyLoss`.
    """

    def __init__(
        self,
        gamma: float = 2.0,
        label_smoothing: float = 0.0,
        *,
        sigmoid: bool = False,
        ignore_index: int | None = None,
        weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__(label_smoothing, gamma, sigmoid=sigmoid, ignore_index=ignore_index, weight=weight)


def _at_least_tiny(total: Tensor) -> Tensor:
    return total.clamp(min=torch.finfo(total.dtype).tiny)
