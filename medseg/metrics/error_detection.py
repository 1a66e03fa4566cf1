"""Whether uncertainty finds errors: AUROC, AUPRC and sparsification of an uncertainty map against wrong voxels.

All of them are read out of one table: for each uncertainty that a wrong voxel has, how many wrong and right voxels
share it and how many right ones lie below. Wrong voxels are few, so the table is small however large the volume.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import digamma

from medseg.metrics.pieces import pieces

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    #: Uncertainty, whether wrong, and where to look (None: everywhere), of one shape.
    Case = tuple[np.ndarray, np.ndarray, np.ndarray | None]


@dataclass(frozen=True, eq=False)
class ErrorDetection:
    """Wrong voxels ranked among the right ones by their uncertainty; ties are counted, never broken.

    Args:
        values: (U,) the uncertainties of wrong voxels, ascending.
        wrong: (U,) int64 wrong voxels with this value.
        tied: (U,) int64 right voxels with it.
        below: (U,) int64 right voxels with less.
        n_right: right voxels.
    """

    values: np.ndarray
    wrong: np.ndarray
    tied: np.ndarray
    below: np.ndarray
    n_right: int

    @property
    def n_wrong(self) -> int:
        """Wrong voxels."""
        return int(self.wrong.sum())

    @property
    def error_rate(self) -> float:
        """Share of wrong voxels: the AUPRC and AURC of a map that knows nothing. NaN without voxels."""
        n = self.n_wrong + self.n_right
        return self.n_wrong / n if n else np.nan

    @property
    def auroc(self) -> float:
        """Chance that a wrong voxel is more uncertain than a right one, ties counting half (Mann and Whitney, 1947).

        NaN where all voxels are right or all are wrong.
        """
        if not self.n_wrong or not self.n_right:
            return np.nan
        return float(self.wrong @ (self.below + self.tied / 2)) / self.n_wrong / self.n_right

    @property
    def auprc(self) -> float:
        """Average precision: sum over thresholds of the gain in recall times precision, not interpolated.

        NaN where no voxel is wrong.
        """
        if not self.n_wrong:
            return np.nan
        found = np.cumsum(self.wrong[::-1])[::-1]
        return float(self.wrong @ (found / (found + self.n_right - self.below))) / self.n_wrong

    @cached_property
    def aurc(self) -> float:
        """Area under the risk-coverage curve: mean over k of the error rate among the k least uncertain voxels.

        Expected over the order of ties. NaN without voxels. (Geifman and El-Yaniv, NeurIPS 2017.)
        """
        n = self.n_wrong + self.n_right
        if not n:
            return np.nan
        missed = np.cumsum(self.wrong) - self.wrong  # wrong voxels with less
        start = self.below + missed
        tie = self.wrong + self.tied
        end = start + tie
        # within a tie the k-th voxel adds wrong / tie errors on average: sum of (missed + k wrong / tie) / (start + k)
        share = self.wrong / tie
        within = self.wrong + (missed - share * start) * (_harmonic(end) - _harmonic(start))
        after = (missed + self.wrong) * (_harmonic(np.append(start[1:], n)) - _harmonic(end))
        return float((within + after).sum()) / n

    @property
    def e_aurc(self) -> float:
        """AURC less that of the best ranking possible (excess AURC; Geifman et al., ICLR 2019)."""
        n = self.n_wrong + self.n_right
        if not n:
            return np.nan
        best = self.n_wrong - self.n_right * (_harmonic(n) - _harmonic(self.n_right))
        return self.aurc - float(best) / n

    @property
    def ause(self) -> float:
        """Area under the sparsification error, as a share of the error rate (Ilg et al., ECCV 2018).

        The most uncertain voxels are removed first; the area lies between the remaining error rate and that of
        removing wrong voxels first. 0: as good as can be. NaN where no voxel is wrong.
        """
        return self.e_aurc / self.error_rate if self.n_wrong else np.nan


def error_detection(uncertainty: np.ndarray, wrong: np.ndarray, region: np.ndarray | None = None) -> ErrorDetection:
    """Rank the wrong voxels of one case.

    Args:
        uncertainty: floats of any shape; what is greater is less certain, the scale does not matter.
        wrong: bool of the same shape, such as `pred != ref`.
        region: bool of the same shape, where to look (`medseg.metrics.regions`); None: everywhere.

    Raises:
        ValueError: the shapes differ, or an uncertainty in the region is NaN.
        TypeError: `wrong` or `region` is not bool.
    """
    return pooled_error_detection([(uncertainty, wrong, region)])


def pooled_error_detection(cases: Collection[Case]) -> ErrorDetection:
    """`error_detection` of all cases' voxels as if they were one volume, exactly.

    Args:
        cases: (uncertainty, wrong, region) each; gone through twice, so that a collection that loads on iteration
            holds one case at a time.
    """
    values, wrong = _merge([np.unique_counts(_known(u[w & r])) for case in cases for u, w, r in _parts(case)])
    below, upto, n_right = np.zeros(len(values), np.int64), np.zeros(len(values), np.int64), 0
    for case in cases:
        for u, w, r in _parts(case):
            right = np.sort(_known(u[~w & r]))
            n_right += len(right)
            below += np.searchsorted(right, values, "left")
            upto += np.searchsorted(right, values, "right")
    return ErrorDetection(values, wrong, upto - below, below, n_right)


def _parts(case: Case) -> Iterator[tuple[np.ndarray, ...]]:
    uncertainty, wrong, region = case
    region = np.broadcast_to(np.True_, wrong.shape) if region is None else region
    for name, array in (("wrong", wrong), ("region", region)):
        if array.dtype != bool:
            msg = f"{name} is bool, got {array.dtype}"
            raise TypeError(msg)
    return pieces(uncertainty=uncertainty, wrong=wrong, region=region)


def _known(values: np.ndarray) -> np.ndarray:
    if np.isnan(values).any():
        msg = "an uncertainty is a number: the region holds NaN"
        raise ValueError(msg)
    return values


def _merge(found: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    if not found:
        return np.empty(0), np.empty(0, np.int64)
    values, place = np.unique(np.concatenate([v for v, _ in found]), return_inverse=True)
    counts = np.zeros(len(values), np.int64)
    np.add.at(counts, place, np.concatenate([n for _, n in found]))
    return values, counts


def _harmonic(n):
    """1 + 1/2 + ... + 1/n, less Euler's constant."""
    return digamma(np.asarray(n, np.float64) + 1)
