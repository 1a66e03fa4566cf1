"""Several losses as one weighted sum, over one softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from medseg.losses.pair import PairLoss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.losses.pair import Pair


class CompoundLoss(PairLoss):
    """Weighted sum of losses, such as a region's and a voxel's, and of a small part of the boundary's.

        {"_target_": "medseg.losses.CompoundLoss",
         "losses": [{"_target_": "medseg.losses.FocalTverskyLoss"}, {"_target_": "medseg.losses.FocalLoss"},
                    {"_target_": "medseg.losses.BoundaryLoss"}],
         "weights": [1, 1, 0.01]}

    Probabilities and truth are computed once for all. Distance maps reach the losses that take them. MONAI's losses
    (or any other of logits and target) may stand among them: they get float32 logits and the label alone.

    Args:
        losses: at least one; medseg's agree about `sigmoid`, `ignore_index` and, where two take distance maps,
            `include_background`.
        weights: one for each; None: 1 each.
    """

    def __init__(self, losses: Sequence[nn.Module], weights: Sequence[float] | None = None) -> None:
        ours = [loss for loss in losses if isinstance(loss, PairLoss)]
        with_maps = [loss for loss in ours if loss.takes_maps]
        weights = [1.0] * len(losses) if weights is None else [float(w) for w in weights]
        if not ours or len(weights) != len(losses):
            msg = f"wanted losses, one of medseg's at least, and a weight for each; got {len(losses)} and {weights}"
            raise ValueError(msg)
        for name, among in (("sigmoid", ours), ("ignore_index", ours), ("include_background", with_maps)):
            found = [getattr(loss, name) for loss in among]
            if any(value != found[0] for value in found):
                msg = f"the losses of a CompoundLoss do not agree about {name}: {found}"
                raise ValueError(msg)
        super().__init__(
            sigmoid=ours[0].sigmoid,
            include_background=(with_maps or ours)[0].include_background,
            ignore_index=ours[0].ignore_index,
        )
        self.takes_maps = bool(with_maps)
        self.losses = nn.ModuleList(losses)
        self.weights = weights
        self.terms: list[float] = []

    def of(self, pair: Pair) -> Tensor:
        """See `PairLoss`; the members' own values stay in `terms`, unweighted, for a log."""
        values = [
            loss.of(pair) if isinstance(loss, PairLoss) else loss(pair.logits, pair.target) for loss in self.losses
        ]
        self.terms = [float(value.detach()) for value in values]
        return torch.stack([weight * value for weight, value in zip(self.weights, values, strict=True)]).sum()
