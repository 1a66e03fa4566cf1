"""What a box alone says about a mask: where the object begins and ends along each axis (Tian et al., CVPR 2021).

The largest value of a mask over each plane across an axis is 1 between the object's ends and 0 beyond. These three
profiles are compared, so an instance with a box and no mask teaches the mask head too.
"""

from __future__ import annotations

from torch import Tensor

SMOOTH = 1e-5


def profiles(masks: Tensor) -> list[Tensor]:
    """(R, d, h, w) -> the largest value at each place of each axis: (R, d), (R, h), (R, w)."""
    return [masks.amax(others) for others in ((2, 3), (1, 3), (1, 2))]


def projection_loss(logits: Tensor, extents: Tensor) -> Tensor:
    """1 - Dice of the profiles, mean over the axes.

    Args:
        logits: (R, d, h, w) of the masks.
        extents: (R, d, h, w) 0 or 1, the part of the true box in each box; only its profiles are looked at.

    Returns:
        (R,).
    """
    # Squares in the denominator (V-Net), as in BoxInst.
    pairs = zip(profiles(logits.sigmoid()), profiles(extents), strict=True)
    dice = [(2 * (p * t).sum(1) + SMOOTH) / ((p * p).sum(1) + (t * t).sum(1) + SMOOTH) for p, t in pairs]
    return 1 - sum(dice) / 3  # type: ignore[return-value]
