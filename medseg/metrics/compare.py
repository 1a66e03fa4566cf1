"""Two models on the same cases: is the difference more than chance?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import wilcoxon

from medseg.metrics.bootstrap import Interval, bootstrap_interval, median

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class PairedComparison:
    """Scores a less scores b of the same cases.

    Args:
        mean: mean difference; infinite where one of the two alone missed a structure altogether.
        median: median difference.
        p_value: two-sided, of Wilcoxon's signed-rank test; 1 where no pair differs.
        n: pairs.
        n_subjects: differences that were tested: one for each subject.
        n_differing: those of them that are not 0.
    """

    mean: Interval
    median: Interval
    p_value: float
    n: int
    n_subjects: int
    n_differing: int


def paired_comparison(
    a: Sequence[float] | np.ndarray,
    b: Sequence[float] | np.ndarray,
    *,
    groups: Sequence | np.ndarray | None = None,
    level: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> PairedComparison:
    """Compare two scores of each case by Wilcoxon's signed-rank test (1945), with bootstrap intervals.

    Pairs without a difference are left out of the test, as Wilcoxon did. Infinite differences rank highest, as
    ties; two infinite scores of one sign do not differ. Where a subject has several scans, its mean difference is
    tested (the median where one is infinite), for scans of one subject are not independent.

    Args:
        a: (N,) scores, may be infinite, not NaN.
        b: (N,) scores of the same cases in the same order.
        groups: (N,) the subject of each case; None: each is its own.
        level: of the intervals.
        draws: of the bootstrap, over subjects.
        seed: of the bootstrap.

    Raises:
        ValueError: no pairs, two lengths, NaN.
    """
    difference = signed_difference(a, b)
    n = len(difference)
    if groups is not None:
        _, place = np.unique(np.asarray(groups), return_inverse=True)
        if place.shape != (n,):
            msg = f"each of the {n} pairs has a group, got groups of shape {place.shape}"
            raise ValueError(msg)
        difference = np.array([_centre(difference[place == g]) for g in range(int(place.max()) + 1)])
    mean, middle = (
        bootstrap_interval(difference, statistic=s, level=level, draws=draws, seed=seed) for s in ("mean", "median")
    )
    differing = difference[difference != 0]
    return PairedComparison(mean, middle, _signed_rank(differing), n, len(difference), len(differing))


def signed_difference(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> np.ndarray:
    """The differences a - b, 0 where both are infinite with one sign."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        msg = f"one or more cases have two scores each, got {a.shape} and {b.shape}"
        raise ValueError(msg)
    if np.isnan(a).any() or np.isnan(b).any():
        msg = "a score is a number, infinite for a missed structure: got NaN"
        raise ValueError(msg)
    with np.errstate(invalid="ignore"):
        return np.where(a == b, 0.0, a - b)


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """(M,) p values adjusted for M tests (Holm's step-down, 1979): reject where they are at most alpha.

    Of 0.01, 0.04, 0.03, 0.005 the smallest is multiplied by 4, the next by 3, then 2 and 1, and none may be less
    than one before it: 0.03, 0.06, 0.06, 0.02.

    Raises:
        ValueError: a value outside [0, 1] or NaN.
    """
    p = np.asarray(p_values, np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        msg = f"p values lie in [0, 1], got {p.tolist()}"
        raise ValueError(msg)
    order = np.argsort(p)
    out = np.empty_like(p)
    out[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return out


def _centre(values: np.ndarray) -> float:
    return float(values.mean()) if np.isfinite(values).all() else median(values)


def _signed_rank(difference: np.ndarray) -> float:
    if not len(difference):
        return 1.0
    finite = np.abs(difference[np.isfinite(difference)])
    beyond = 2 * finite.max() if len(finite) else 1.0
    result = wilcoxon(np.clip(difference, -beyond, beyond))
    return float(result.pvalue)  # pyright: ignore[reportAttributeAccessIssue]  (scipy makes the type at run time)
