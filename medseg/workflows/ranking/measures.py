"""How much of a case is in doubt: three numbers in [0, 1] from the samples of its segmentation.

The *doubtful foreground* of a case is every voxel that the mean of the samples or any single sample gives to a structure.
So a case in which nothing is found, though some samples find something, is judged where they do. Where it is smaller
than 1 mL (or than 1 % of the image, where that is less) the most uncertain voxels around it are added up to that size:
a single stray voxel does not decide, and a case where no sample finds anything is judged at its most uncertain place.

- `entropy`: mean over the doubtful foreground of the predictive entropy / ln C.
- `mutual_information`: mean over it of the mutual information / ln C: the part of the entropy that more training data
  can take away (Houlsby et al., 2011; Gal et al., ICML 2017).
- `disagreement`: 1 - the Dice of two samples, pooled over all pairs (doubt.py), mean over the structures that at least
  one sample finds; 0 where all samples agree that there is nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, isnan
from typing import TYPE_CHECKING

import numpy as np

from medseg.workflows.doubt import agreement

if TYPE_CHECKING:
    from medseg.inferers.moments import Uncertainty

#: Words of `--by` -> fields of `Measures`.
CRITERIA = {"entropy": "entropy", "mutual-information": "mutual_information", "disagreement": "disagreement"}
LEAST_ML = 1.0
LEAST_SHARE = 0.01


@dataclass(frozen=True)
class Measures:
    """See the file's docstring.

    Args:
        entropy: in [0, 1].
        mutual_information: in [0, 1].
        disagreement: in [0, 1].
        foreground_ml: volume that the mean of the samples gives to structures, mL.
    """

    entropy: float
    mutual_information: float
    disagreement: float
    foreground_ml: float


def measures(found: Uncertainty, voxel_ml: float) -> Measures:
    """Measure the samples of one case.

    Args:
        found: maps and votes, (*space) and (S, *space).
        voxel_ml: volume of a voxel, mL.
    """
    entropy, information = found.entropy.cpu().numpy(), found.mutual_information.cpu().numpy()
    labels, votes = found.labels.cpu().numpy(), found.votes.cpu().numpy()
    where = doubtful(labels > 0, votes, entropy, voxel_ml)
    agreed = [agreement(structure, found.samples) for structure in votes]
    apart = [1.0 - one for one in agreed if not isnan(one)]
    return Measures(
        entropy=float(entropy[where].mean(dtype=np.float64)),
        mutual_information=float(information[where].mean(dtype=np.float64)),
        disagreement=sum(apart) / len(apart) if apart else 0.0,
        foreground_ml=float(np.count_nonzero(labels)) * voxel_ml,
    )


def doubtful(foreground: np.ndarray, votes: np.ndarray, entropy: np.ndarray, voxel_ml: float) -> np.ndarray:
    """The doubtful foreground, (*space) bool, at least one voxel.

    Args:
        foreground: (*space) bool, what the mean of the samples finds.
        votes: (S, *space): how many samples give a voxel to each structure.
        entropy: (*space).
        voxel_ml: volume of a voxel, mL.
    """
    where = foreground.copy()
    for structure in votes:
        where |= structure > 0
    least = max(1, ceil(min(LEAST_ML / voxel_ml, LEAST_SHARE * where.size)))
    missing = least - int(np.count_nonzero(where))
    if missing > 0:
        where.ravel()[_largest(np.where(where, -1.0, entropy).ravel(), missing)] = True
    return where


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` largest of (N,) values; of equals those that come first, the same on every system."""
    limit = np.partition(values, len(values) - count)[len(values) - count]
    above, equal = np.flatnonzero(values > limit), np.flatnonzero(values == limit)
    return np.concatenate([above, equal[: count - len(above)]])
