"""What a box alone says about a mask: it reaches each side of the box, and nothing lies outside (Tian et al., CVPR 2021).

The largest values of a mask over each plane across an axis must be 1 between the sides of the box. These three profiles
are compared, so an instance with a box and no mask teaches the mask head too. BoxInst takes the one largest value, which
teaches a noisy image's masks to be specks; here it is the mean of the largest `LARGEST`. BoxInst also takes the profiles
beyond the sides; but that nothing is there is known voxel by voxel. (With the profiles alone a voxel that is the largest
in its plane along one axis and lies outside along another is pulled both ways, and descent ends there.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn.functional import softplus

if TYPE_CHECKING:
    from torch import Tensor

SMOOTH = 1e-5
# Of a plane's cells the largest of this share make its profile: less than a thin object that runs across the box takes.
LARGEST = 0.02


def profiles(masks: Tensor) -> list[Tensor]:
    """(R, d, h, w) -> the mean of the largest values at each place of each axis: (R, d), (R, h), (R, w)."""
    planes = [masks.flatten(2), masks.transpose(1, 2).flatten(2), masks.permute(0, 3, 1, 2).flatten(2)]
    return [plane.topk(max(1, round(LARGEST * plane.shape[2])), dim=2).values.mean(2) for plane in planes]


def projection_loss(logits: Tensor, extents: Tensor) -> Tensor:
    """1 - Dice of the profiles inside, mean over the axes, + binary cross-entropy of the voxels outside.

    Args:
        logits: (R, d, h, w) of the masks.
        extents: (R, d, h, w) 0 or 1, the part of the true box in each box.

    Returns:
        (R,).
    """
    # Squares in the denominator (V-Net), as in BoxInst.
    pairs = zip(profiles(logits.sigmoid() * extents), profiles(extents), strict=True)
    dice = [(2 * (p * t).sum(1) + SMOOTH) / ((p * p).sum(1) + (t * t).sum(1) + SMOOTH) for p, t in pairs]
    outside = (softplus(logits) * (1 - extents)).mean((1, 2, 3))
    return 1 - sum(dice) / 3 + outside  # type: ignore[return-value]
