"""FROC: the share of lesions found against false positives per scan, as the confidence demanded falls.

Counted as LUNA16 counts (Setio et al., Medical Image Analysis 2017; noduleCADEvaluationLUNA16.py), whichever rule
says what a hit is. A lesion is found at the highest score that hits it. Further hits of one lesion are neither true
nor false positives. An instance that hits two lesions finds both. One that hits nothing is a false positive. Between
the points of the curve sensitivity is interpolated linearly, and beyond its last point it stays as it is.

Example: two scans, three lesions. Scan 1: lesion A hit at .9 and again at .8, and a false positive at .7; lesion B
not hit. Scan 2: lesion C hit at .6. The curve runs through (0, 0), (0, 1/3) at .9, (1/2, 1/3) at .7 and (1/2, 2/3) at
.6 (false positives per scan, sensitivity).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.metrics.instance.average_precision import ScoredCase

#: False positives per scan at which LUNA16 reads the sensitivity.
RATES = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True, eq=False)
class Hits:
    """Which instances of one scan hit which lesions.

    Args:
        scores: (P,) confidence of each instance.
        n_ref: lesions.
        index: (N, 2) int64, each hit as (instance, lesion).
    """

    scores: np.ndarray
    n_ref: int
    index: np.ndarray


@dataclass(frozen=True, eq=False)
class Froc:
    """An FROC curve, from the highest score to the lowest.

    Args:
        false_positives: (n,) per scan.
        sensitivity: (n,) share of all lesions found; 0 where there are none.
        thresholds: (n,) an instance counts at this score or more; the first is infinite.
        n_cases: scans.
        n_ref: lesions.
    """

    false_positives: np.ndarray
    sensitivity: np.ndarray
    thresholds: np.ndarray
    n_cases: int
    n_ref: int

    def at(self, rate: float) -> float | None:
        """Sensitivity at so many false positives per scan; None where there is no lesion to find."""
        return float(np.interp(rate, self.false_positives, self.sensitivity)) if self.n_ref else None

    @property
    def cpm(self) -> float | None:
        """Competition performance metric: mean sensitivity at `RATES`; None where there is no lesion to find."""
        return float(np.mean(np.interp(RATES, self.false_positives, self.sensitivity))) if self.n_ref else None


def iou_hits(case: ScoredCase, iou: float) -> Hits:
    """An instance hits every lesion with which its IoU is `iou` or more."""
    return Hits(case.scores, case.overlaps.n_ref, case.overlaps.index[case.overlaps.iou >= iou])


def centre_hits(
    scores: np.ndarray, pred_centres_mm: np.ndarray, ref_centres_mm: np.ndarray, ref_radii_mm: np.ndarray
) -> Hits:
    """LUNA16's rule: an instance hits a lesion from whose centre its own lies less than the lesion's radius away.

    Args:
        scores: (P,) confidence of each instance.
        pred_centres_mm: (P, 3).
        ref_centres_mm: (R, 3).
        ref_radii_mm: (R,) such as `sphere_radius_mm` of the lesions' volumes.
    """
    apart = np.linalg.norm(np.asarray(pred_centres_mm)[:, None] - np.asarray(ref_centres_mm)[None], axis=-1)
    return Hits(np.asarray(scores, np.float64), len(ref_radii_mm), np.argwhere(apart < np.asarray(ref_radii_mm)))


def froc_curve(cases: Sequence[Hits]) -> Froc:
    """The curve of one or more scans.

    Raises:
        ValueError: no scan.
    """
    if not cases:
        msg = "an FROC curve counts false positives per scan, got no scan"
        raise ValueError(msg)
    found, wrong = [np.empty(0)], [np.empty(0)]
    for case in cases:
        pred, ref = case.index.T
        best = np.full(case.n_ref, -np.inf)
        np.maximum.at(best, ref, case.scores[pred])
        found.append(best[np.isfinite(best)])
        wrong.append(np.delete(case.scores, pred))
    hits, misses = np.sort(-np.concatenate(found)), np.sort(-np.concatenate(wrong))
    steps = np.union1d(hits, misses)
    n_ref = sum(case.n_ref for case in cases)
    return Froc(
        np.append(0.0, np.searchsorted(misses, steps, "right") / len(cases)),
        np.append(0.0, np.searchsorted(hits, steps, "right") / max(n_ref, 1)),
        np.append(np.inf, -steps),
        len(cases),
        n_ref,
    )
