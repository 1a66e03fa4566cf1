"""In which order to label: what is doubtful first, but never twice the same.

Greedy: the first case is the one with the highest score s; each next one has the largest

    s(x) * d(x)        d(x) = distance from x to the nearest case ranked before

With equal scores this is the farthest-first traversal (Gonzalez, 1985) by which Sener and Savarese (ICLR 2018) choose a
core-set; the score as a factor is the idea of BADGE (Ash et al., ICLR 2020), whose vectors grow with uncertainty, here
without its random draw. A product asks for no exchange rate: neither the unit of the score nor that of the distance
changes the order. A copy has distance 0, so it comes after all that are different, however doubtful it is.

Worked example, one feature: a and b at 0 with scores 0.9 and 0.8, c at 1 with 0.5, d at 4 with 0.2. a is first; then
b: 0.8 * 0, c: 0.5 * 1, d: 0.2 * 4, so d; then c: 0.5 * 1; b, the copy of a, is last.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

# A feature that differs by less than this share of its size is constant but for rounding.
SAME = 1e-6


@dataclass(frozen=True)
class Ranked:
    """A case in the order.

    Args:
        name: of the case.
        score: how much is in doubt.
        distance: to `nearest`, in standard deviations of the pool (root mean square over the features); NaN for the
            first case.
        nearest: of the cases ranked before the most similar one; '' for the first case.
    """

    name: str
    score: float
    distance: float = nan
    nearest: str = ""


def teaching_order(names: Sequence[str], scores: Sequence[float], features: np.ndarray) -> list[Ranked]:
    """The pool in the order in which labelling it teaches most; it does not depend on the order given.

    Equal products: the larger distance first, then the higher score, then by name.

    Args:
        names: N of them, each once.
        scores: N, at least 0.
        features: (N, F), in any units; they are standardised over the pool.

    Raises:
        ValueError: a name stands twice, the lengths differ, a score is negative, or a number is not finite.
    """
    values, points = np.asarray(scores, np.float64), np.asarray(features, np.float64)
    _check(names, values, points)
    turn = sorted(range(len(names)), key=lambda n: names[n])
    known = [names[n] for n in turn]
    values, points = values[turn], standardised(points[turn])
    distance, nearest = np.full(len(known), np.inf), np.zeros(len(known), np.intp)
    waiting = np.ones(len(known), dtype=bool)
    places: list[Ranked] = []
    while waiting.any():
        worth = values * distance if places else values
        chosen = _best(waiting, worth, distance, values)
        if places:
            places.append(Ranked(known[chosen], float(values[chosen]), float(distance[chosen]), known[nearest[chosen]]))
        else:
            places.append(Ranked(known[chosen], float(values[chosen])))
        waiting[chosen] = False
        apart = distances(points, points[chosen])
        closer = apart < distance
        distance[closer], nearest[closer] = apart[closer], chosen
    return places


def standardised(features: np.ndarray) -> np.ndarray:
    """(N, F) with mean 0 and standard deviation 1 over the pool; a constant feature is 0."""
    if not features.size:
        return features
    middle, spread = features.mean(axis=0), features.std(axis=0)
    varies = spread > SAME * np.abs(features).max(axis=0)
    return np.where(varies, (features - middle) / np.where(varies, spread, 1.0), 0.0)


def distances(points: np.ndarray, one: np.ndarray) -> np.ndarray:
    """(N,) root mean square differences of (N, F) points from one (F,) point; 0 without features."""
    if not points.shape[1]:
        return np.zeros(len(points))
    return np.sqrt(np.square(points - one).mean(axis=1))


def _best(waiting: np.ndarray, *criteria: np.ndarray) -> int:
    """The index among `waiting` that is largest by the first criterion, then by the next; then the first."""
    left = np.flatnonzero(waiting)
    for criterion in criteria:
        left = left[criterion[left] == criterion[left].max()]
    return int(left[0])


def _check(names: Sequence[str], scores: np.ndarray, features: np.ndarray) -> None:
    if len(set(names)) < len(names):
        msg = f"each case is ranked once, repeated: {', '.join(sorted({n for n in names if names.count(n) > 1}))}"
        raise ValueError(msg)
    if features.ndim != 2 or not len(names) == len(scores) == len(features):
        msg = f"{len(names)} cases need as many scores and rows of features, got {scores.shape}, {features.shape}"
        raise ValueError(msg)
    if not np.isfinite(scores).all() or not np.isfinite(features).all() or (scores < 0).any():
        msg = "scores are finite and at least 0, features are finite"
        raise ValueError(msg)
