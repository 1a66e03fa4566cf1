"""The score of BraTS' uncertainty task: Dice among certain voxels, at what price in true ones.

Mehta et al., QU-BraTS, MELBA 2022 (arXiv 2112.10074); the numbers are those of its BraTS_Seg_Uncertainty.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medseg.metrics.pieces import pieces


@dataclass(frozen=True, eq=False)
class QuBrats:
    """What remains of one structure when voxels above a threshold of uncertainty are taken out.

    Args:
        thresholds: (T,) ascending from 0 to 100; voxels with greater uncertainty are taken out.
        dice: (T,) of the voxels left; 1 where neither map has any left.
        ftp: (T,) share of the true positives taken out; 0 where there are none.
        ftn: (T,) share of the true negatives taken out; 0 where there are none.
    """

    thresholds: np.ndarray
    dice: np.ndarray
    ftp: np.ndarray
    ftn: np.ndarray

    @property
    def dice_auc(self) -> float:
        """Mean Dice over the thresholds (trapezoids), 1 at best."""
        return self._mean(self.dice)

    @property
    def ftp_auc(self) -> float:
        """Mean share of true positives taken out, 0 at best."""
        return self._mean(self.ftp)

    @property
    def ftn_auc(self) -> float:
        """Mean share of true negatives taken out, 0 at best."""
        return self._mean(self.ftn)

    @property
    def score(self) -> float:
        """(Dice AUC + (1 - FTP AUC) + (1 - FTN AUC)) / 3."""
        return (self.dice_auc + (1 - self.ftp_auc) + (1 - self.ftn_auc)) / 3

    def _mean(self, curve: np.ndarray) -> float:
        return float(np.trapezoid(curve, self.thresholds)) / 100


def qu_brats(
    pred: np.ndarray,
    ref: np.ndarray,
    uncertainty: np.ndarray,
    *,
    brain: np.ndarray | None = None,
    steps: int = 40,
) -> QuBrats:
    """Score the uncertainty of one structure.

    Args:
        pred: (I, J, K) bool mask.
        ref: (I, J, K) bool mask.
        uncertainty: (I, J, K) in [0, 100]; maps in [0, 1] are multiplied by 100 first.
        brain: (I, J, K) bool, where true positives and negatives are counted; Dice is taken everywhere, as there.
        steps: the thresholds are 0, 100 / steps, ..., 100.

    Raises:
        ValueError: the shapes differ, an uncertainty outside [0, 100] or NaN, no step.
        TypeError: a mask is not bool.
    """
    if steps < 1:
        msg = f"thresholds run from 0 to 100 in one step or more, got steps={steps}"
        raise ValueError(msg)
    brain = np.broadcast_to(np.True_, pred.shape) if brain is None else brain
    for name, mask in (("pred", pred), ("ref", ref), ("brain", brain)):
        if mask.dtype != bool:
            msg = f"{name} is a bool mask of one structure, got {mask.dtype}"
            raise TypeError(msg)
    thresholds = np.linspace(0, 100, steps + 1)
    voxels = np.zeros((2, 2, 2, steps + 1), np.int64)  # brain, ref, pred, first threshold that keeps the voxel
    for u, p, r, b in pieces(uncertainty=uncertainty, pred=pred, ref=ref, brain=brain):
        if not ((u >= 0) & (u <= 100)).all():
            msg = "QU-BraTS takes uncertainties in [0, 100]: some are NaN or outside"
            raise ValueError(msg)
        first = np.searchsorted(thresholds, u.ravel())
        index = np.ravel_multi_index((b.ravel(), r.ravel(), p.ravel(), first), voxels.shape)
        voxels += np.bincount(index, minlength=voxels.size).reshape(voxels.shape)
    kept = voxels.cumsum(axis=-1)
    anywhere = kept.sum(axis=0)
    both, either = 2 * anywhere[1, 1], 2 * anywhere[1, 1] + anywhere[0, 1] + anywhere[1, 0]
    dice = np.divide(both, either, out=np.ones(steps + 1), where=either > 0)
    return QuBrats(thresholds, dice, _taken(kept[1, 1, 1]), _taken(kept[1, 0, 0]))


def _taken(kept: np.ndarray) -> np.ndarray:
    return (kept[-1] - kept) / max(int(kept[-1]), 1)
