"""Does a predicted quality (such as the agreement among Monte Carlo samples) tell the true one?

The pairwise Dice of samples is the best simple prediction of a case's Dice (Zenk et al., Medical Image Analysis 2025).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.metrics.bootstrap import Interval, percentile_interval

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class QualityAgreement:
    """How well predicted quality follows the true one.

    Args:
        spearman: rank correlation (1904), 1 at best: it finds the bad cases. NaN where one of the two is constant.
        mae: mean absolute error, 0 at best: its numbers can be taken at their word.
    """

    spearman: Interval
    mae: Interval


def quality_agreement(
    predicted: Sequence[float] | np.ndarray,
    true: Sequence[float] | np.ndarray,
    *,
    groups: Sequence | np.ndarray | None = None,
    level: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> QualityAgreement:
    """Compare N cases' predicted and true quality.

    Args:
        predicted: (N,) finite, such as the mean pairwise Dice of samples.
        true: (N,) finite, such as Dice against the reference.
        groups: (N,) the subject of each case, the unit that is resampled; None: each is its own.
        level: of the intervals.
        draws: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ValueError: no cases, two lengths, a value that is not finite.
    """
    x, y = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    if x.shape != y.shape or x.ndim != 1 or not len(x) or not (np.isfinite(x) & np.isfinite(y)).all():
        msg = f"each of one or more cases has two finite qualities, got {x.tolist()} and {y.tolist()}"
        raise ValueError(msg)
    off = np.abs(x - y)
    spearman, mae = (
        percentile_interval(statistic, len(x), groups=groups, level=level, draws=draws, seed=seed)
        for statistic in (
            lambda times: _correlation(_ranks(x, times), _ranks(y, times), times),
            lambda times: times @ off / times.sum(axis=1),
        )
    )
    return QualityAgreement(spearman, mae)


def _ranks(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(D, N) rank of each value among those drawn, equals sharing their mean rank."""
    order = np.argsort(values, kind="stable")
    first = np.flatnonzero(np.diff(values[order], prepend=-np.inf))
    size = np.add.reduceat(times[:, order], first, axis=1)
    rank = np.cumsum(size, axis=1) - (size - 1) / 2
    tie = np.empty(len(values), int)
    tie[order] = np.repeat(np.arange(len(first)), np.diff(first, append=len(values)))
    return rank[:, tie]


def _correlation(x: np.ndarray, y: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(D,) Pearson correlation, NaN where x or y is constant."""
    n = times.sum(axis=1, keepdims=True)
    x = x - (times * x).sum(axis=1, keepdims=True) / n
    y = y - (times * y).sum(axis=1, keepdims=True) / n
    xx, yy, xy = ((times * product).sum(axis=1) for product in (x * x, y * y, x * y))
    scale = np.sqrt(xx * yy)
    return np.divide(xy, scale, out=np.full(len(scale), np.nan), where=scale > 1e-9)
