"""The losses of a Mask R-CNN joined: is there something, what and where, which voxels, and the class of all voxels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from monai.losses import DiceCELoss, DiceLoss
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, smooth_l1_loss

from medseg.boxes.overlap import giou_pairs
from medseg.losses.projection import projection_loss

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from medseg.networks.sampled import Sampled

TERMS = ("objectness", "anchor_box", "class", "box", "mask", "semantic")


class DetectionLoss(nn.Module):
    """Weighted sum of the terms.

    - objectness: binary cross-entropy of the sampled anchors.
    - anchor_box, box: smooth L1 of the codes + 1 - generalised IoU of the boxes (Rezatofighi et al., CVPR 2019).
    - class: cross-entropy of the sampled proposals.
    - mask: binary cross-entropy + `region`, + binary cross-entropy of single points where the network refines masks;
      where an instance has a box only, `projection_loss`.
    - semantic: `semantic` at full resolution, where the class is known.

    Args:
        weights: of each term, 1 where not named; or "learned": each term L counts exp(-s) L + s with a learned s
            (Kendall et al., CVPR 2018). Give the loss's parameters to the optimizer then.
        region: of masks (R, 1, d, h, w), logits against shares in [0, 1], such as
            `monai.losses.TverskyLoss(sigmoid=True, soft_label=True)`.
        semantic: of logits (B, K + 1 + stuff, D, H, W) against classes (B, 1, D, H, W).

    Attributes:
        terms: the last value of each, for a log.
    """

    def __init__(
        self,
        weights: Mapping[str, float] | str | None = None,
        region: nn.Module | None = None,
        semantic: nn.Module | None = None,
    ) -> None:
        super().__init__()
        fixed = {} if weights is None or isinstance(weights, str) else dict(weights)
        if (isinstance(weights, str) and weights != "learned") or set(fixed) - set(TERMS):
            msg = f"weights are 'learned' or numbers for {', '.join(TERMS)}, got {weights!r}"
            raise ValueError(msg)
        self.weights = {term: float(fixed.get(term, 1.0)) for term in TERMS}
        self.log_variance = nn.ParameterDict(
            {t: nn.Parameter(torch.zeros(())) for t in TERMS} if weights == "learned" else {}
        )
        self.region = region or DiceLoss(sigmoid=True, soft_label=True)
        self.semantic = semantic or DiceCELoss(softmax=True, to_onehot_y=True, include_background=False)
        self.terms: dict[str, float] = {}

    def forward(self, sampled: Sampled, truth: Any = None) -> Tensor:
        """The sum; `truth` is what MONAI's engine passes along, all of it is in `sampled` already."""
        del truth
        terms = {
            "objectness": _mean_or_zero(binary_cross_entropy_with_logits, sampled.objectness, sampled.is_object),
            "anchor_box": box_loss(
                sampled.anchor_codes, sampled.true_anchor_codes, sampled.anchor_boxes, sampled.true_anchor_boxes
            ),
            "class": _mean_or_zero(cross_entropy, sampled.class_logits, sampled.true_classes),
            "box": box_loss(sampled.box_codes, sampled.true_box_codes, sampled.boxes, sampled.true_boxes),
            "mask": self._mask(sampled),
            "semantic": self._semantic(sampled.semantic, sampled.true_semantic),
        }
        self.terms = {name: float(term.detach()) for name, term in terms.items()}
        if not self.log_variance:
            return sum(self.weights[name] * term for name, term in terms.items())  # type: ignore[return-value]
        return sum((-self.log_variance[n]).exp() * term + self.log_variance[n] for n, term in terms.items())  # type: ignore[return-value]

    def _mask(self, sampled: Sampled) -> Tensor:
        known, logits, masks = sampled.has_mask, sampled.mask_logits, sampled.true_masks
        total = (logits.sum() + sampled.point_logits.sum()) * 0.0  # no instance: no loss, but a gradient
        if known.any():
            some, true = logits[known][:, None], masks[known][:, None]
            share = known.float().mean()
            total = total + (binary_cross_entropy_with_logits(some, true) + self.region(some, true)) * share
            if sampled.point_logits.shape[1]:
                points = binary_cross_entropy_with_logits(sampled.point_logits[known], sampled.true_points[known])
                total = total + points * share
        if not known.all():
            total = total + projection_loss(logits[~known], masks[~known]).mean() * (~known).float().mean()
        return total

    def _semantic(self, logits: Tensor, classes: Tensor) -> Tensor:
        unknown = (classes < 0)[:, None]
        if not unknown.any():
            return self.semantic(logits, classes[:, None])
        # Where nothing is known the network is taken to be right: background, for certain, on both sides.
        certain = torch.full_like(logits, -30.0)
        certain[:, 0] = 30.0
        return self.semantic(torch.where(unknown, certain, logits), classes.clamp(min=0)[:, None])


def _mean_or_zero(loss: Callable[[Tensor, Tensor], Tensor], found: Tensor, true: Tensor) -> Tensor:
    """0 where nothing was sampled, as in a patch that is ignored all over; a mean over nothing is NaN."""
    return loss(found, true) if len(found) else found.sum() * 0.0


def box_loss(codes: Tensor, true_codes: Tensor, boxes: Tensor, true_boxes: Tensor) -> Tensor:
    """Smooth L1 of the codes + 1 - generalised IoU, mean over the boxes; 0 for none."""
    if not len(codes):
        return codes.sum() * 0.0
    return smooth_l1_loss(codes, true_codes, beta=0.1) + (1 - giou_pairs(boxes, true_boxes)).mean()
