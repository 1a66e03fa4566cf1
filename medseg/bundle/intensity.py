"""What the grey values of a scan look like, told without units: numbers that survive rescaling.

MR intensities have no unit: in one training set they run to 255 in one case and to 1,700,000 in the next. So
every number here is unchanged when a scan is multiplied by a positive constant, and all but `floor` also when a
constant is added. They describe three things that differ between modalities and body parts: the form of the
histogram (where the quartiles lie between the 1 % and 99 % quantiles), how far structures reach (correlation
with the neighbour 1 and 4 voxels away) and how fine the texture is (first and second differences). Voxels that
are exactly 0 are left out of the histogram, so that a skull-stripped or padded scan looks like a plain one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The histogram and texture numbers that are compared with the training range, and the least width of that range:
#: a few training cases must not make it needlessly narrow. Names beginning with `log_` are natural logarithms.
FORM = {
    "u05": 0.10,
    "u25": 0.10,
    "u50": 0.10,
    "u75": 0.10,
    "u95": 0.05,
    "corr1": 0.05,
    "corr4": 0.10,
    "log_iqr": 0.40,
    "log_step": 0.40,
    "log_bend": 0.40,
}

#: What each number means, for messages.
MEANING = {
    "u05": "5 % quantile of the grey values",
    "u25": "25 % quantile of the grey values",
    "u50": "median of the grey values",
    "u75": "75 % quantile of the grey values",
    "u95": "95 % quantile of the grey values",
    "corr1": "correlation of neighbouring voxels",
    "corr4": "correlation of voxels 4 apart",
    "log_iqr": "log of the spread of the grey values",
    "log_step": "log of the typical step between neighbours",
    "log_bend": "log of the fine texture",
}

_ENOUGH = 2_000_000  # voxels that are looked at; quantiles of more do not change in the digits that matter
_LEAST = 1000


def describe(image: np.ndarray) -> Mapping[str, float] | None:
    """The unit-free description of one channel.

    Args:
        image: (I, J, K), any real dtype.

    Returns:
        `floor` (lowest value over the largest magnitude of the 1 % and 99 % quantiles, negative for Hounsfield
        units) and the numbers of `FORM`, or None for an image that has no structure (constant, or under 5 voxels
        along an axis, or under 1000 voxels).
    """
    if min(image.shape) < 5 or image.size < _LEAST:
        return None
    stride = max(1, round((image.size / _ENOUGH) ** (1 / 3)))
    sample = image[::stride, ::stride, ::stride].astype(np.float64)
    signal = sample[sample != 0]
    if signal.size < _LEAST:
        return None
    quantiles = np.quantile(signal, [0.01, 0.05, 0.25, 0.50, 0.75, 0.95, 0.99])
    low, high = quantiles[0], quantiles[-1]
    if not high > low:
        return None
    u = (quantiles - low) / (high - low)
    out = {
        "floor": float(min(image.min(), 0) / max(abs(low), abs(high))),
        "u05": u[1],
        "u25": u[2],
        "u50": u[3],
        "u75": u[4],
        "u95": u[5],
        "corr1": _correlation(image, 1, stride, low, high),
        "corr4": _correlation(image, 4, stride, low, high),
        "log_iqr": _log(u[4] - u[2]),
    }
    steps, bends = [], []
    for axis in range(3):
        before, after = (_clipped(image, axis, start, start - 1, stride, low, high) for start in range(2))
        steps.append(np.abs(after - before).ravel())
        a, b, c = (_clipped(image, axis, start, start - 2, stride, low, high) for start in range(3))
        bends.append(float(np.abs(a - 2 * b + c).mean()))
    out["log_step"] = _log(float(np.median(np.concatenate(steps))))
    out["log_bend"] = _log(float(np.mean(bends)))
    return {key: float(value) for key, value in out.items()}


def _correlation(image: np.ndarray, lag: int, stride: int, low: float, high: float) -> float:
    """Mean over the axes of the correlation between voxels `lag` apart, outliers clipped."""
    found = []
    for axis in range(3):
        a = _clipped(image, axis, 0, -lag, stride, low, high)
        b = _clipped(image, axis, lag, 0, stride, low, high)
        spread = a.std() * b.std()
        found.append(((a - a.mean()) * (b - b.mean())).mean() / spread if spread > 0 else 1.0)
    return float(np.mean(found))


def _clipped(image, axis: int, start: int, end: int, stride: int, low: float, high: float) -> np.ndarray:
    """Every `stride`-th voxel of `image[start : n + end]` along `axis`, mapped so that [low, high] is [0, 1]."""
    index = [slice(None, None, stride)] * 3
    index[axis] = slice(start, image.shape[axis] + end, stride)
    return (np.clip(image[tuple(index)].astype(np.float64), low, high) - low) / (high - low)


def _log(value: float) -> float:
    return float(np.log(max(float(value), 1e-6)))
