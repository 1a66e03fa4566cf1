"""A reliability diagram as data: how sure, and how often right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Reliability:
    """A reliability diagram as sums, of which every calibration error is read out.

    Bins are of equal width; bin b of B holds what lies in (b / B, (b + 1) / B], the first one 0 too (Guo et al., On
    Calibration of Modern Neural Networks, ICML 2017). `a + b` is the diagram of both.

    Args:
        count: (B,) int64 voxels in each bin.
        hits: (B,) int64 those for which it came true.
        confidence_sum: (B,) float64 sum of their probabilities.
    """

    count: np.ndarray
    hits: np.ndarray
    confidence_sum: np.ndarray

    @property
    def n(self) -> int:
        """Voxels."""
        return int(self.count.sum())

    @property
    def edges(self) -> np.ndarray:
        """(B + 1,) from 0 to 1."""
        return np.linspace(0, 1, len(self.count) + 1)

    @property
    def confidence(self) -> np.ndarray:
        """(B,) mean probability, NaN in empty bins."""
        return _ratio(self.confidence_sum, self.count)

    @property
    def accuracy(self) -> np.ndarray:
        """(B,) share that came true, NaN in empty bins."""
        return _ratio(self.hits, self.count)

    @property
    def ece(self) -> float:
        """Expected calibration error: mean over voxels of |accuracy - confidence| of their bin (Naeini, AAAI 2015).

        NaN without voxels, as are the other two.
        """
        return float(np.abs(self.hits - self.confidence_sum).sum() / self.n) if self.n else np.nan

    @property
    def ace(self) -> float:
        """Average calibration error: mean of |accuracy - confidence| over bins that hold voxels (Neumann, 2018).

        Not the adaptive calibration error of Nixon et al., whose bins hold equal numbers of voxels.
        """
        return float(np.nanmean(self._gap)) if self.n else np.nan

    @property
    def mce(self) -> float:
        """Maximum calibration error: the largest |accuracy - confidence| of a bin (Naeini, AAAI 2015)."""
        return float(np.nanmax(self._gap)) if self.n else np.nan

    @property
    def _gap(self) -> np.ndarray:
        return np.abs(self.accuracy - self.confidence)

    def __add__(self, other: Reliability) -> Reliability:
        if len(self.count) != len(other.count):
            msg = f"diagrams add up bin by bin, got {len(self.count)} and {len(other.count)} bins"
            raise ValueError(msg)
        return Reliability(self.count + other.count, self.hits + other.hits, self.confidence_sum + other.confidence_sum)

    def __radd__(self, other: Any) -> Reliability:
        return self if other == 0 else NotImplemented  # `sum` starts with 0


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
