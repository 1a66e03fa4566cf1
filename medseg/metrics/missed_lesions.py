"""Lesions that the prediction misses: did the uncertainty map at least show them?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import cc3d
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, eq=False)
class LesionUncertainty:
    """The lesions of a reference, and what a reader of the uncertainty map would have seen there.

    `a + b` holds the lesions of both cases.

    Args:
        volume_mm3: (L,) size of each lesion.
        found: (L,) bool, whether the prediction covers any of its voxels.
        uncertainty: (L,) the greatest, or the mean, uncertainty inside it.
    """

    volume_mm3: np.ndarray
    found: np.ndarray
    uncertainty: np.ndarray

    @property
    def n_missed(self) -> int:
        """Lesions without a voxel in the prediction."""
        return int((~self.found).sum())

    def n_silent(self, threshold: float) -> int:
        """Missed lesions whose uncertainty is below `threshold`: nothing points to them."""
        return int((~self.found & (self.uncertainty < threshold)).sum())

    def silent_share(self, threshold: float) -> float:
        """`n_silent` of `n_missed`; NaN where none is missed."""
        return self.n_silent(threshold) / self.n_missed if self.n_missed else np.nan

    def __add__(self, other: LesionUncertainty) -> LesionUncertainty:
        pairs = zip(
            (self.volume_mm3, self.found, self.uncertainty),
            (other.volume_mm3, other.found, other.uncertainty),
            strict=True,
        )
        return LesionUncertainty(*(np.concatenate(pair) for pair in pairs))

    def __radd__(self, other: Any) -> LesionUncertainty:
        return self if other == 0 else NotImplemented  # `sum` starts with 0


def lesion_uncertainty(
    pred: np.ndarray,
    ref: np.ndarray,
    uncertainty: np.ndarray,
    *,
    spacing_mm: Sequence[float],
    of: Literal["max", "mean"] = "max",
    connectivity: Literal[6, 18, 26] = 26,
) -> LesionUncertainty:
    """What prediction and uncertainty show of each lesion of the reference.

    Args:
        pred: (I, J, K) integer or bool, above 0 where something was found.
        ref: (I, J, K) integer or bool; a lesion is a connected component of what is above 0.
        uncertainty: (I, J, K) floats.
        spacing_mm: along the array axes.
        of: whether the greatest or the mean uncertainty of its voxels stands for a lesion.
        connectivity: voxels that share a face (6), also an edge (18), also a corner (26) belong together.

    Raises:
        ValueError: the shapes differ, `of` or `connectivity` is another, or an uncertainty in a lesion is NaN.
    """
    if not pred.shape == ref.shape == uncertainty.shape or ref.ndim != 3:
        msg = (
            "prediction, reference and uncertainty have one shape (I, J, K), "
            f"got {pred.shape}, {ref.shape} and {uncertainty.shape}"
        )
        raise ValueError(msg)
    if of not in ("max", "mean") or connectivity not in (6, 18, 26):
        msg = f"of is 'max' or 'mean' and connectivity 6, 18 or 26, got {of!r} and {connectivity!r}"
        raise ValueError(msg)
    lesions, n = cc3d.connected_components(ref > 0, connectivity=connectivity, return_N=True)
    inside = np.nonzero(lesions)
    lesion, seen = lesions[inside] - 1, uncertainty[inside].astype(np.float64)
    if np.isnan(seen).any():
        msg = "an uncertainty is a number: a lesion holds NaN"
        raise ValueError(msg)
    voxels = np.bincount(lesion, minlength=n)
    found = np.bincount(lesion, pred[inside] > 0, n) > 0
    if of == "mean":
        value = np.bincount(lesion, seen, n) / voxels
    else:
        value = np.full(n, -np.inf)
        np.maximum.at(value, lesion, seen)
    return LesionUncertainty(voxels * float(np.prod(spacing_mm)), found, value)
