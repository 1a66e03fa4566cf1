"""Fit what turns samples into numbers one can trust: a temperature, and the Dice to expect.

Both are fitted on cases with labels that trained no network, and tried on others (`cross_fit`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from scipy.optimize import minimize_scalar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
R = TypeVar("R")

#: Temperatures are sought between the inverse of this and this.
MOST = 10.0


def mean_probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """(T, K, N) logits of samples -> (K, N) mean of their softmax at a temperature."""
    scaled = logits / temperature
    scaled -= scaled.max(1, keepdims=True)
    np.exp(scaled, out=scaled)
    scaled /= scaled.sum(1, keepdims=True)
    return scaled.mean(0)


def fit_temperature(cases: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """The temperature at which the samples' mean gives the truth the largest likelihood (Guo et al., ICML 2017).

    Args:
        cases: (T, K, N) float logits of the samples and (N,) the true class, for the voxels that are to be calibrated:
            those of prediction or reference, as background dilutes.

    Raises:
        ValueError: there is no voxel.
    """
    voxels = sum(len(truth) for _, truth in cases)
    if not voxels:
        msg = "a temperature is fitted on at least one voxel of prediction or reference"
        raise ValueError(msg)

    def nll(log_temperature: float) -> float:
        total = 0.0
        for logits, truth in cases:
            p = mean_probabilities(logits, float(np.exp(log_temperature)))
            total -= float(np.log(np.maximum(p[truth, np.arange(len(truth))], 1e-7)).sum(dtype=np.float64))
        return total / voxels

    bound = float(np.log(MOST))
    found = minimize_scalar(nll, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-3})
    return float(np.exp(found.x))


def fit_dice(agreement: Sequence[float], dice: Sequence[float]) -> tuple[float, float]:
    """(a, b) of the line dice = a + b * agreement by least squares, as steep as the cases warrant.

    The slope is shrunk by 1 - 1 / F of the fit (Copas, Journal of the Royal Statistical Society B, 1983): a few cases
    that happen to lie on a line would else promise what the next ones do not keep. It is 0 where F is below 1 or the
    line would fall: the Dice to expect is the mean then.

    Args:
        agreement: of the samples of a structure in each case.
        dice: against the reference.
    """
    x, y = np.asarray(agreement, np.float64), np.asarray(dice, np.float64)
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if not len(x):
        msg = "the Dice to expect is fitted on at least one case that has the structure"
        raise ValueError(msg)
    spread = float(((x - x.mean()) ** 2).sum())
    slope = max(0.0, float(((x - x.mean()) * (y - y.mean())).sum()) / spread) if spread > 0 else 0.0
    explained = slope**2 * spread
    left = float(((y - y.mean()) ** 2).sum()) - explained
    if explained * (len(x) - 2) > left:  # F > 1
        slope *= 1.0 - max(0.0, left) / (explained * (len(x) - 2))
    else:
        slope = 0.0
    return float(y.mean() - slope * x.mean()), slope


def cross_fit(items: Sequence[T], fit: Callable[[Sequence[T]], R], folds: int = 2) -> list[R]:
    """For each item what was fitted on the others: every `folds`-th item is left out in turn.

    Args:
        items: cases, in a fixed order.
        fit: what is fitted on some of them.
        folds: 2 fits on one half and tries on the other, then the other way round.
    """
    fits = [fit([x for n, x in enumerate(items) if n % folds != fold]) for fold in range(folds)]
    return [fits[n % folds] for n in range(len(items))]
