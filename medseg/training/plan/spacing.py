"""The voxel size on which the network works (nnU-Net's rule: Isensee et al., Nature Methods 2021).

The median of the training cases along each patient axis; but where one axis is much coarser than the others (thick slices:
more than three times the finest spacing, and less than a third of the voxels), its 10 % quantile, so that most cases keep
what resolution they have there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.training.plan.choice import Choice, many, mm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.training.plan.look import Facts

#: From here on an axis counts as anisotropic, in spacing and in voxels.
ANISOTROPIC = 3.0
#: Spacings this near to each other, relatively, are one: the network's grid does not resample them.
_SAME = 0.01

Triple = tuple[float, float, float]


def target_spacing(facts: Sequence[Facts]) -> tuple[Triple, Choice]:
    """The network's voxel size along R-L, A-P and S-I, mm, and why."""
    every = np.array([one.spacing_mm for one in facts])
    shapes = np.array([one.shape for one in facts])
    target = np.median(every, axis=0)
    why = f"the median of {many(len(facts), 'case')}, from {mm(every.min(0))} to {mm(every.max(0))}"
    coarse = int(target.argmax())
    others = [axis for axis in range(3) if axis != coarse]
    size = np.median(shapes * every / target, axis=0)
    thick = target[coarse] > ANISOTROPIC * target[others].min()
    if thick and size[coarse] * ANISOTROPIC < size[others].min():
        fine = max(float(np.quantile(every[:, coarse], 0.1)), float(target[others].max()))
        axis = ("R-L", "A-P", "S-I")[coarse]
        why += f"; slices are thick along {axis} ({target[coarse]:.3g} mm, {size[coarse]:.0f} voxels), so there the 10 % quantile"
        target[coarse] = fine
    rounded = _rounded(target, every)
    return rounded, Choice("spacing", mm(rounded), why)


def sizes_at(facts: Sequence[Facts], spacing_mm: Sequence[float]) -> np.ndarray:
    """(N, 3) voxels of every case on the network's grid."""
    return np.array([np.ceil(np.array(one.extent_mm) / spacing_mm - 1e-3) for one in facts])


def _rounded(target: np.ndarray, every: np.ndarray) -> Triple:
    """Four significant digits; nearly equal spacings become one number."""
    if np.ptp(target) < _SAME * target.min() and (np.ptp(every, axis=0) < _SAME * target).all():
        target = np.full(3, target.mean())
    x, y, z = (float(f"{v:.4g}") for v in target)
    return x, y, z
