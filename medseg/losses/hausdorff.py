"""The Hausdorff distance as a loss, in mm (Karimi & Salcudean, IEEE TMI 2020), from distance maps of each case."""

from __future__ import annotations

from typing import TYPE_CHECKING

import edt
import numpy as np
import torch
from torch import Tensor

from medseg.losses.pair import PairLoss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.losses.pair import Pair


class HausdorffLoss(PairLoss):
    """Mean of (probability - truth)^2 times the alpha-th power of the distance, mm^alpha.

    The loss takes `medseg.transforms.DistanceMapsd`'s maps behind the target's label. With `spacing_mm` the distance to
    the prediction's own surface (where its probability crosses 1/2) counts too, as in the paper's Loss_DT; it is
    computed at each step, on the CPU. Without, only the label's counts (Loss_DT-OS): nothing is computed, and what the
    paper lost by it was small.

    MONAI 1.6.1's measures in voxels, whatever their spacing, and computes four transforms a class at every step. On
    voxels of 1 mm its numbers are these.

    Args:
        alpha: exponent of the distance.
        spacing_mm: voxel size of the network's grid along the axes of the logits. Coarser outputs of deep supervision
            have larger voxels: leave it out there.
        sigmoid, include_background, ignore_index, weight: see `PairLoss`.
    """

    takes_maps = True

    def __init__(
        self,
        alpha: float = 2.0,
        spacing_mm: Sequence[float] | None = None,
        *,
        sigmoid: bool = False,
        include_background: bool | None = None,
        ignore_index: int | None = None,
        weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__(
            sigmoid=sigmoid, include_background=include_background, ignore_index=ignore_index, weight=weight
        )
        if alpha <= 0 or (spacing_mm is not None and min(spacing_mm) <= 0):
            msg = f"alpha and spacing_mm lie above 0, got {alpha} and {spacing_mm}"
            raise ValueError(msg)
        self.alpha = alpha
        self.spacing_mm = None if spacing_mm is None else tuple(float(s) for s in spacing_mm)

    def of(self, pair: Pair) -> Tensor:
        """See `PairLoss`."""
        counted = pair.counted(self.include_background)
        assert pair.maps is not None
        weight = pair.maps.abs() ** self.alpha
        if self.spacing_mm is not None:
            weight = weight + surface_distance_mm(counted.probs.detach() > 0.5, self.spacing_mm) ** self.alpha
        each = ((counted.probs - counted.truth) ** 2 * weight).flatten(2).sum(2) / counted.voxels()
        return self.mean(each, counted.classes)


def surface_distance_mm(masks: Tensor, spacing_mm: Sequence[float]) -> Tensor:
    """Distance of each voxel's centre to the nearest across the mask's surface; 0 where there is no surface.

    Args:
        masks: (B, C, ...) bool.
        spacing_mm: along each axis of space.

    Returns:
        (B, C, ...) float32 on the masks' device.

    Raises:
        ValueError: not one number for each axis.
    """
    if len(spacing_mm) != masks.ndim - 2:
        msg = f"spacing_mm has {len(spacing_mm)} numbers for {masks.ndim - 2} axes"
        raise ValueError(msg)
    sides = masks.to(torch.uint8).cpu().numpy() + np.uint8(1)  # 0 is edt's background, which has no distance
    out = torch.zeros(masks.shape)
    for case, channel in np.ndindex(*sides.shape[:2]):
        side = np.ascontiguousarray(sides[case, channel])
        if side.min() != side.max():
            found = edt.edt(side, anisotropy=tuple(spacing_mm), black_border=False, parallel=torch.get_num_threads())
            out[case, channel] = torch.from_numpy(found)
    return out.to(masks.device)
