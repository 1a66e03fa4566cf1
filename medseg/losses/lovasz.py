"""The Jaccard index's Lovasz extension as a loss (Berman et al., CVPR 2018), which MONAI does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.losses.pair import PairLoss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from medseg.losses.pair import Pair


def jaccard_steps(truth: Tensor) -> Tensor:
    """How much the Jaccard loss grows with each further wrong voxel.

    Args:
        truth: (..., N) shares in [0, 1], the voxel with the largest error first.

    Returns:
        (..., N), at least 0; their sum is 1.
    """
    total = truth.sum(-1, keepdim=True)
    left = total - truth.cumsum(-1)
    loss = 1 - left / (total + (1 - truth).cumsum(-1)).clamp(min=1e-12)
    return loss.diff(dim=-1, prepend=loss.new_zeros(*loss.shape[:-1], 1))


class LovaszLoss(PairLoss):
    """Lovasz-softmax; with `sigmoid` the same of each region's probabilities.

    The errors |truth - probability| of a class, sorted, are weighed by `jaccard_steps`. On hard predictions it is
    1 - Jaccard. For soft labels it is 0 where the probabilities are the labels, and above elsewhere.

    Args:
        absent: count classes that a case does not hold (the loss is then its largest error); the paper leaves them out.
        batch: sort the whole batch together, not case by case.
        sigmoid, include_background, ignore_index, weight: see `PairLoss`.
    """

    def __init__(
        self,
        *,
        absent: bool = False,
        batch: bool = False,
        sigmoid: bool = False,
        include_background: bool | None = None,
        ignore_index: int | None = None,
        weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__(
            sigmoid=sigmoid, include_background=include_background, ignore_index=ignore_index, weight=weight
        )
        self.absent = absent
        self.batch = batch

    def of(self, pair: Pair) -> Tensor:
        """See `PairLoss`."""
        counted = pair.counted(self.include_background)
        # What is not known is 0 on both sides: an error of 0, sorted last, weighs nothing.
        probs, truth = (self._rows(x) for x in (counted.probs, counted.truth))
        errors, order = (truth - probs).abs().sort(-1, descending=True)
        each = (errors * jaccard_steps(truth.gather(-1, order))).sum(-1)
        weights = self.class_weights(counted.classes, each).expand_as(each)
        if not self.absent:
            weights = weights * (truth.sum(-1) > 0)
        return (each * weights).sum() / weights.sum().clamp(min=1e-12)

    def _rows(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> (B, C, N), or (1, C, B N)."""
        rows = x.flatten(2)
        return rows.transpose(0, 1).flatten(1)[None] if self.batch else rows
