"""How far a mean or median would move had other subjects been scored: percentile bootstrap intervals.

Efron, Annals of Statistics 1979. A draw is a number of times that each value occurs, so that whole subjects can be
drawn (all scans of one come along) and a statistic is computed for many draws at once. Infinite distances of missed
structures stay infinite: a median copes with them, a mean is infinite as soon as one is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

#: Cells of the table of draws that are in memory at once.
_CELLS = 1 << 20


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval.

    Args:
        estimate: of the values as they are.
        low: lower end.
        high: upper end.
        level: share of draws within.
        n: values.
        n_groups: subjects that were resampled; `n` where each value is its own.
    """

    estimate: float
    low: float
    high: float
    level: float
    n: int
    n_groups: int


def bootstrap_interval(
    values: Sequence[float] | np.ndarray,
    *,
    groups: Sequence | np.ndarray | None = None,
    statistic: Literal["mean", "median"] = "mean",
    level: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Interval of the mean or median.

    Args:
        values: (N,) may be infinite, not NaN.
        groups: (N,) the subject of each value; None: each is its own.
        statistic: "mean" or "median" over the values, also where subjects are drawn.
        level: share of draws within the interval.
        draws: how many.
        seed: the same one gives the same interval.

    Raises:
        ValueError: no values, NaN, another length of `groups`, or an option out of its range.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values) or np.isnan(values).any():
        msg = f"an interval needs one or more values and no NaN, got {np.array2string(values, threshold=10)}"
        raise ValueError(msg)
    if statistic not in _STATISTICS:
        msg = f"the statistic is 'mean' or 'median', got {statistic!r}"
        raise ValueError(msg)
    return percentile_interval(
        lambda times: _STATISTICS[statistic](values, times),
        len(values),
        groups=groups,
        level=level,
        draws=draws,
        seed=seed,
    )


def percentile_interval(
    statistic: Callable[[np.ndarray], np.ndarray],
    n: int,
    *,
    groups: Sequence | np.ndarray | None = None,
    level: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Interval of any statistic.

    The ends are order statistics of the draws, not interpolated between two (one of which may be infinite). Draws
    without a value (NaN, such as a correlation of equals) are left out; the ends are NaN where that leaves none.

    Args:
        statistic: (D, N) how often each value occurs in each of D draws -> (D,).
        n: values.
        groups: as for `bootstrap_interval`, as are the others.
        level: share of draws within the interval.
        draws: how many.
        seed: the same one gives the same interval.
    """
    if not 0 < level < 1 or draws < 1:
        msg = f"an interval has a level between 0 and 1 and at least one draw, got level={level}, draws={draws}"
        raise ValueError(msg)
    place = np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if place.shape != (n,):
        msg = f"each of the {n} values has a group, got groups of shape {place.shape}"
        raise ValueError(msg)
    n_groups = int(place.max()) + 1
    found = np.concatenate([statistic(times[:, place]) for times in _draws(n_groups, n, draws, seed)])
    found = np.sort(found[~np.isnan(found)])
    tail = (1 - level) / 2
    low, high = np.quantile(found, (tail, 1 - tail), method="inverted_cdf") if len(found) else (np.nan, np.nan)
    return Interval(float(statistic(np.ones((1, n)))[0]), float(low), float(high), level, n, n_groups)


def _draws(n_groups: int, n: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """(D, G) how often each of G groups is drawn when G are drawn with replacement; as floats, to be multiplied."""
    random = np.random.default_rng(seed)
    step = max(1, _CELLS // n)
    for start in range(0, draws, step):
        d = min(step, draws - start)
        chosen = random.integers(0, n_groups, (d, n_groups)) + n_groups * np.arange(d)[:, None]
        yield np.bincount(chosen.ravel(), minlength=d * n_groups).reshape(d, n_groups).astype(np.float64)


def _means(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    finite = np.isfinite(values)
    out = times @ np.where(finite, values, 0) / times.sum(axis=1)
    for infinite in (np.inf, -np.inf):
        drawn = times[:, values == infinite].any(axis=1)
        out[drawn] = np.where(np.isinf(out[drawn]), np.nan, infinite)  # inf - inf has no mean
    return out


def _medians(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    order = np.argsort(values)
    upto = np.cumsum(times[:, order], axis=1)
    total = upto[:, -1:]
    lower = (upto < np.floor((total + 1) / 2)).sum(axis=1)
    upper = (upto < np.floor(total / 2) + 1).sum(axis=1)
    return midpoint(values[order[lower]], values[order[upper]])


def midpoint(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Half way from a to b; 0 between the two infinities."""
    with np.errstate(invalid="ignore"):
        return np.where(a == -b, 0.0, a / 2 + b / 2)


def median(values: np.ndarray) -> float:
    """Median of values that may be infinite."""
    ordered = np.sort(np.asarray(values, np.float64))
    return float(midpoint(ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]))


_STATISTICS = {"mean": _means, "median": _medians}
