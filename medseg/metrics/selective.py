"""Risk against coverage: how good the cases are that remain when the least certain ones go to a human."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """Mean risk of the cases kept, from the single most certain one to all.

    Args:
        coverage: (N,) share kept: 1/N, 2/N, ..., 1.
        risk: (N,) mean risk of those kept, least uncertain first; expected over the order of ties.
        oracle: (N,) the same, least risk first.
    """

    coverage: np.ndarray
    risk: np.ndarray
    oracle: np.ndarray

    @property
    def mean_risk(self) -> float:
        """Risk of all cases, which is also the AURC of an uncertainty that knows nothing."""
        return float(self.risk[-1])

    @property
    def aurc(self) -> float:
        """Area under the risk-coverage curve: its mean (Geifman and El-Yaniv, NeurIPS 2017)."""
        return float(self.risk.mean())

    @property
    def e_aurc(self) -> float:
        """AURC less the oracle's, 0 at best (excess AURC; Geifman et al., ICLR 2019)."""
        return self.aurc - float(self.oracle.mean())

    @property
    def ause(self) -> float:
        """Area under the sparsification error, as a share of the mean risk (Ilg et al., ECCV 2018).

        Removing a share of the cases is covering the rest, so it is e-AURC / mean risk. NaN where there is no risk.
        """
        return self.e_aurc / self.mean_risk if self.mean_risk else np.nan


def risk_coverage(risk: np.ndarray, uncertainty: np.ndarray) -> RiskCoverage:
    """The curve of N cases (or of anything else that has a risk and an uncertainty).

    Args:
        risk: (N,) finite, such as 1 - Dice, or 1 for wrong and 0 for right.
        uncertainty: (N,) what is greater is handed over earlier; infinite is allowed.

    Raises:
        ValueError: no case, two lengths, an infinite risk, a NaN.
    """
    risk, uncertainty = np.asarray(risk, np.float64), np.asarray(uncertainty, np.float64)
    if risk.shape != uncertainty.shape or risk.ndim != 1 or not len(risk):
        msg = f"each of one or more cases has a risk and an uncertainty, got {risk.shape} and {uncertainty.shape}"
        raise ValueError(msg)
    if not np.isfinite(risk).all() or np.isnan(uncertainty).any():
        msg = "a risk is finite and an uncertainty a number: a failed case has the greatest risk, not NaN"
        raise ValueError(msg)
    kept = np.arange(1, len(risk) + 1)
    _, tie, size = np.unique(uncertainty, return_inverse=True, return_counts=True)
    expected = (np.bincount(tie, risk) / size)[np.sort(tie)]
    return RiskCoverage(kept / len(risk), np.cumsum(expected) / kept, np.cumsum(np.sort(risk)) / kept)
