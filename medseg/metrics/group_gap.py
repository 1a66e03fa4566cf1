"""Whether a model serves one group of patients (a site, a scanner, a sex) worse than another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from medseg.metrics.bootstrap import Interval, bootstrap_interval
from medseg.metrics.compare import signed_difference

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence


@dataclass(frozen=True)
class GroupScore:
    """The score of one group: mean and median, each with n and interval."""

    mean: Interval
    median: Interval


@dataclass(frozen=True)
class GroupGap:
    """Scores of all groups, and how far the worst lies behind the best.

    Args:
        groups: in the order of their names.
        worst: name of the worst one; of equals the first.
        best: name of the best one; of equals the first.
        gap: |best - worst| of the statistic compared, 0 or more; infinite where the worst alone is.
        statistic: what was compared.
    """

    groups: dict[Hashable, GroupScore]
    worst: Hashable
    best: Hashable
    gap: float
    statistic: Literal["mean", "median"]


def group_gap(
    values: Sequence[float] | np.ndarray,
    groups: Sequence[Hashable],
    *,
    higher_is_better: bool,
    subjects: Sequence | np.ndarray | None = None,
    statistic: Literal["mean", "median"] = "median",
    level: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> GroupGap:
    """Score each group of cases.

    Args:
        values: (N,) scores, may be infinite, not NaN.
        groups: (N,) the group of each.
        higher_is_better: true for Dice, false for a distance.
        subjects: (N,) whom each case is of, the unit that is resampled; None: each is its own.
        statistic: by which groups are compared.
        level: of the intervals.
        draws: of the bootstrap within each group.
        seed: of the bootstrap.

    Raises:
        ValueError: no values, NaN, other lengths.
    """
    values = np.asarray(values, np.float64)
    subjects = np.arange(len(values)) if subjects is None else np.asarray(subjects)
    if not len(values) == len(groups) == len(subjects) or not len(values):
        msg = f"each of one or more values has a group and a subject, got {len(values)}, {len(groups)}, {len(subjects)}"
        raise ValueError(msg)
    scores: dict[Hashable, GroupScore] = {}
    for name in sorted(set(groups), key=str):
        where = np.array([group == name for group in groups])
        mean, median = (
            bootstrap_interval(values[where], groups=subjects[where], statistic=s, level=level, draws=draws, seed=seed)
            for s in ("mean", "median")
        )
        scores[name] = GroupScore(mean, median)
    estimates = {name: getattr(score, statistic).estimate for name, score in scores.items()}
    low, high = min(estimates, key=estimates.__getitem__), max(estimates, key=estimates.__getitem__)
    worst, best = (low, high) if higher_is_better else (high, low)
    gap = float(signed_difference([estimates[high]], [estimates[low]])[0])
    return GroupGap(scores, worst, best, gap, statistic)
