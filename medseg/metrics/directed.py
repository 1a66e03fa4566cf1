"""One surface as seen from another: what is read out of the distances of its elements.

Surfaces made of border voxels count their elements, those made of surfels weigh them by area; the two differ in how
a percentile and a tolerance are read, and each reads them as its origin does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from medseg.metrics.boundary import within


@dataclass(frozen=True, eq=False)
class Counted:
    """Elements that count one each (MONAI, Metrics Reloaded, MedPy).

    Args:
        mm: (N,) float64 distance of each element to the other surface.
    """

    mm: np.ndarray

    @property
    def size(self) -> float:
        """Number of elements."""
        return float(len(self.mm))

    @property
    def mean(self) -> float:
        """Mm."""
        return float(self.mm.mean())

    @property
    def largest(self) -> float:
        """Mm."""
        return float(self.mm.max())

    def percentile(self, percent: float) -> float:
        """Interpolated between the two nearest elements, mm."""
        return float(np.percentile(self.mm, percent))

    def near(self, tolerance_mm: float) -> float:
        """How many elements lie at most so far away."""
        return float(np.count_nonzero(within(self.mm, tolerance_mm)))


@dataclass(frozen=True, eq=False)
class Weighed:
    """Elements that weigh their area (DeepMind's surface-distance).

    Args:
        mm: (N,) float64 distance of each element to the other surface, ascending; equal ones by area.
        area: (N,) float64 mm2.
    """

    mm: np.ndarray
    area: np.ndarray

    @property
    def size(self) -> float:
        """Whole area, mm2."""
        return float(self.area.sum())

    @property
    def mean(self) -> float:
        """Mm."""
        return float((self.mm * self.area).sum() / self.area.sum())

    @property
    def largest(self) -> float:
        """Mm."""
        return self.percentile(100)

    @cached_property
    def _share(self) -> np.ndarray:
        """(N,) part of the area up to each element. Ties with a percentile hang on this very order of sums."""
        return np.cumsum(self.area) / self.area.sum()

    def percentile(self, percent: float) -> float:
        """Distance of the first element with which so much of the area is reached, mm."""
        return float(self.mm[min(np.searchsorted(self._share, percent / 100), len(self.mm) - 1)])

    def near(self, tolerance_mm: float) -> float:
        """Area that lies at most so far away, mm2."""
        return float(self.area[self.mm <= tolerance_mm].sum())


def weighed(mm: np.ndarray, codes: np.ndarray, areas_mm2: np.ndarray) -> Weighed:
    """In the order that `Weighed` wants.

    Args:
        mm: (N,) float64 distances.
        codes: (N,) uint8, what kind each element is of.
        areas_mm2: (256,) area of each kind.
    """
    rank = np.argsort(np.argsort(areas_mm2, kind="stable")).astype(np.uint8)
    by_area = np.argsort(rank[codes], kind="stable")  # of bytes: no comparisons
    order = by_area[np.argsort(mm[by_area], kind="stable")]
    return Weighed(mm[order], areas_mm2[codes[order]])
