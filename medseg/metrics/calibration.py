"""Whether a probability of 0.8 means right in 80 % of the cases: reliability, calibration errors, Brier, NLL.

One pass over the probabilities, a slice at a time. What it yields are sums, so the results of cases add up:
`calibration(...)` scores one case, `sum(cases)` a whole test set as if it were one volume. That is not the mean of
the cases' errors: a bin that holds ten voxels of a case counts in the mean as much as one of ten thousand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.jit import in_slabs, kernel
from medseg.metrics.pieces import slowest_first
from medseg.metrics.regions import boundary_band, foreground, near
from medseg.metrics.reliability import Reliability

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Probabilities are raised to this before the logarithm, so that one voxel costs at most 16.1 nats: float32 cannot
#: hold 1 - p any closer to 0.
EPSILON = 1e-7
#: How far values may lie outside [0, 1], and their sum over the classes from 1 (float16 rounds).
_SLACK, _SUM_SLACK = 1e-3, 1e-2


@dataclass(frozen=True, eq=False)
class Calibration:
    """Calibration of one case, or of several added up.

    Args:
        top: of the most probable class: confidence max_c p_c, true where that class is the reference's (Guo, 2017).
        classes: one for each class: probability p_c, true where the reference is c (as MONAI's
            CalibrationErrorMetric); for a binary map only that of the foreground.
        brier_sum: sum over voxels of sum_c (p_c - y_c)^2; for a binary map of (p - y)^2, which is half of that.
        nll_sum: sum over voxels of -ln max(p_ref, EPSILON), nats.
    """

    top: Reliability
    classes: tuple[Reliability, ...]
    brier_sum: float
    nll_sum: float

    @property
    def n(self) -> int:
        """Voxels."""
        return self.top.n

    @property
    def classwise_ece(self) -> float:
        """Mean of the classes' ECE (static calibration error; Nixon et al., CVPR workshops 2019)."""
        return float(np.mean([c.ece for c in self.classes]))

    @property
    def brier(self) -> float:
        """Mean Brier score (1950), 0 at best; at worst 2, of a binary map 1. NaN without voxels."""
        return self.brier_sum / self.n if self.n else np.nan

    @property
    def nll(self) -> float:
        """Mean negative log-likelihood, nats. NaN without voxels."""
        return self.nll_sum / self.n if self.n else np.nan

    def rows(self) -> Iterator[tuple[str, float]]:
        """(name of the metric, value)."""
        yield from (("ece", self.top.ece), ("ace", self.top.ace), ("mce", self.top.mce))
        yield from (("classwise_ece", self.classwise_ece), ("brier", self.brier), ("nll", self.nll))

    def __add__(self, other: Calibration) -> Calibration:
        if len(self.classes) != len(other.classes):
            msg = f"cases of one model add up, got {len(self.classes)} and {len(other.classes)} classes"
            raise ValueError(msg)
        classes = tuple(a + b for a, b in zip(self.classes, other.classes, strict=True))
        return Calibration(
            self.top + other.top, classes, self.brier_sum + other.brier_sum, self.nll_sum + other.nll_sum
        )

    def __radd__(self, other: Any) -> Calibration:
        return self if other == 0 else NotImplemented


def calibration(
    probabilities: np.ndarray,
    ref: np.ndarray,
    *,
    region: np.ndarray | None = None,
    bins: int = 20,
    threads: int | None = None,
) -> Calibration:
    """Score the probabilities of one case.

    Args:
        probabilities: (C, I, J, K) floats that sum to 1 over C >= 2 classes, or (I, J, K) of the foreground. Regions
            that overlap, such as nested tumours, are scored one by one as the latter.
        ref: (I, J, K) of integers or bool: the class of each voxel, 0 to C - 1; for a binary map any value above 0
            is foreground.
        region: (I, J, K) bool, where to look (`medseg.metrics.regions`); None: the whole volume.
        bins: of the diagrams.
        threads: at most this many; None: every processor this process may use. The result does not depend on it.

    Raises:
        ValueError: shapes that do not fit, values that are no probabilities (NaN, outside [0, 1], not summing to 1),
            a class in `ref` that has no channel.
        TypeError: `probabilities` are no floats, `ref` no integers or `region` not bool.
    """
    binary = probabilities.ndim == 3
    channels = probabilities[None] if binary else probabilities
    region = np.broadcast_to(np.True_, ref.shape) if region is None else region
    _check(channels, ref, region, bins, binary)
    axes = slowest_first(channels[0])
    channels = channels.transpose(0, *(a + 1 for a in axes))
    ref, region = ref.transpose(axes), region.transpose(axes)
    n_slices, n_classes = ref.shape[0], 2 if binary else len(channels)
    dtype = np.float64 if probabilities.dtype.itemsize > 4 else np.float32
    # a row for each slice, so that sums are taken in one order whatever the number of threads
    counts = np.zeros((n_slices, 2, n_classes + 1, bins), np.int64)
    confidence = np.zeros((n_slices, n_classes + 1, bins))
    totals = np.zeros((n_slices, 5))

    def work(begin: int, end: int) -> None:
        for s in range(begin, end):
            p = np.ascontiguousarray(channels[:, s], dtype).reshape(len(channels), -1)
            truth = (ref[s] > 0 if binary else ref[s]).astype(np.int64).ravel()
            p = np.concatenate([1 - p, p]) if binary else p
            inside = np.ascontiguousarray(region[s]).ravel()
            _tally(p, truth, inside, dtype(bins), counts[s, 0], counts[s, 1], confidence[s], totals[s])

    in_slabs(work, n_slices, threads)
    brier, nll, outside, unequal, strange = totals.sum(axis=0)
    _refuse(int(outside), int(unequal), int(strange), n_classes)
    count, hits = counts.sum(axis=0)
    diagrams = [Reliability(*sums) for sums in zip(count, hits, confidence.sum(axis=0), strict=True)]
    if binary:
        return Calibration(diagrams[2], (diagrams[1],), float(brier) / 2, float(nll))
    return Calibration(diagrams[-1], tuple(diagrams[:-1]), float(brier), float(nll))


def calibration_by_region(
    probabilities: np.ndarray,
    pred: np.ndarray,
    ref: np.ndarray,
    *,
    spacing_mm: Sequence[float],
    band_mm: float,
    bins: int = 20,
    threads: int | None = None,
) -> dict[str, Calibration]:
    """`calibration` in the "whole" volume, the "foreground", the "boundary" band and around the "prediction".

    Foreground and boundary are those of prediction or reference, so that what was missed counts. But a region that the
    reference has a say in selects voxels by being wrong: background with a probability of 0.9 lies in it just where
    the reference is foreground. Also probabilities that are true have an ECE of about 0.1 there. "prediction" is
    chosen by the prediction alone (its foreground and `band_mm` around it): there it can fall to 0.

    Args:
        probabilities: as for `calibration`.
        pred: (I, J, K) the segmentation made of them.
        ref: as for `calibration`.
        spacing_mm: along the array axes.
        band_mm: to either side of the surfaces, and around the prediction.
        bins: of the diagrams.
        threads: at most this many; None: every processor this process may use.
    """
    masks = {
        "whole": None,
        "foreground": foreground(pred, ref),
        "boundary": boundary_band(pred, ref, band_mm, spacing_mm=spacing_mm, threads=threads),
        "prediction": near(pred, pred, band_mm, spacing_mm=spacing_mm, threads=threads),
    }
    return {
        name: calibration(probabilities, ref, region=mask, bins=bins, threads=threads) for name, mask in masks.items()
    }


@kernel
def _tally(p, truth, inside, scale, count, hits, confidence, totals):
    """Add one slice: (C, N) probabilities, (N,) true class; the last row of the tables is the most probable class."""
    n_classes, top = len(p), len(count) - 1
    for n in range(len(truth)):
        if not inside[n]:
            continue
        true = truth[n]
        if true < 0 or true >= n_classes:
            totals[4] += 1
            continue
        best, total, brier, sound = 0, 0.0, 0.0, True
        for c in range(n_classes):
            x = p[c, n]
            sound &= x >= -_SLACK and x <= 1 + _SLACK
            if x > p[best, n]:
                best = c
            b = _bin(x, scale)
            count[c, b] += 1
            hits[c, b] += c == true
            confidence[c, b] += x
            total += x
            brier += (x - (c == true)) ** 2
        totals[2] += not sound
        totals[3] += abs(total - 1) > _SUM_SLACK
        totals[0] += brier
        totals[1] -= np.log(max(np.float64(p[true, n]), EPSILON))
        b = _bin(p[best, n], scale)
        count[top, b] += 1
        hits[top, b] += best == true
        confidence[top, b] += p[best, n]


@kernel
def _bin(x, scale):
    """The product is rounded as x was, so that a float32 0.15 lies on the edge 3 / 20 and not beyond it."""
    return max(min(int(np.ceil(x * scale)) - 1, int(scale) - 1), 0)


def _check(channels: np.ndarray, ref: np.ndarray, region: np.ndarray, bins: int, binary: bool) -> None:
    if channels.ndim != 4 or channels.shape[1:] != ref.shape or ref.shape != region.shape:
        msg = (
            "calibration compares (C, I, J, K) or (I, J, K) probabilities with (I, J, K) labels in an (I, J, K) region, "
            f"got {channels.shape[1:] if binary else channels.shape}, {ref.shape} and {region.shape}"
        )
        raise ValueError(msg)
    if len(channels) < 2 and not binary:
        msg = "one channel alone is no distribution over classes: pass the foreground's probability as (I, J, K)"
        raise ValueError(msg)
    if bins < 1:
        msg = f"a diagram has at least one bin, got bins={bins}"
        raise ValueError(msg)
    kinds = (("probabilities", channels, "f"), ("ref", ref, "iub"), ("region", region, "b"))
    for name, array, accepted in kinds:
        if array.dtype.kind not in accepted:
            wanted = {"f": "floats", "iub": "integers or bool", "b": "bool"}[accepted]
            msg = f"{name} holds {wanted}, got {array.dtype}"
            raise TypeError(msg)


def _refuse(outside: int, unequal: int, strange: int, n_classes: int) -> None:
    if strange:
        msg = f"each label is one of the {n_classes} channels, 0 to {n_classes - 1}: {strange} voxels have another one"
        raise ValueError(msg)
    if outside:
        msg = f"probabilities lie in [0, 1]: {outside} voxels hold NaN or values outside (logits need softmax or sigmoid first)"
        raise ValueError(msg)
    if unequal:
        msg = (
            f"the probabilities of a voxel sum to 1 over its classes: those of {unequal} voxels do not "
            "(score regions that overlap one by one, as (I, J, K))"
        )
        raise ValueError(msg)
