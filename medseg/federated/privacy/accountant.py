"""How much a site's noisy updates give away, as epsilon at a delta, and of what.

The level is the site: the whole data set behind an update may be replaced by any other, and whoever reads every message
of that site learns at most so much. A patient is part of the data set, so the same epsilon holds for a patient. It covers
the weights alone: counts of cases and steps, and metrics, leave as they are.

Of two updates of norm at most C the distance is at most 2 C, so noise of standard deviation z C is, in units of that
distance, z / 2. Releases compose exactly: of n of them with z_i, the whole is one Gaussian mechanism of
`sigma = 1 / sqrt(sum of (2 / z_i)^2)` (Dong, Roth and Su 2022, corollary 3.3), also where each depends on those before; its
epsilon is the closed form of Balle and Wang 2018, as Google's dp-accounting computes it. Every site sends in every round,
so no sampling makes it less.

Worked example: z = 10 and 4 rounds give sigma = 1 / sqrt(4 * 0.04) = 2.5, and at delta 1e-5 epsilon 1.56.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from medseg.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterable

LEVEL = (
    "site (its whole data set replaced by any other; so for each patient too), seen by whoever reads all its updates"
)
#: How far apart two clipped updates can be, in units of the norm they are clipped to.
_APART = 2.0


@dataclass(frozen=True)
class Spent:
    """What a site has given away.

    Args:
        epsilon: infinite where an update was sent without noise.
        delta: at which epsilon is stated.
        updates: how many were sent.
    """

    epsilon: float
    delta: float
    updates: int

    def __str__(self) -> str:
        return f"epsilon {self.epsilon:.4g} at delta {self.delta:g} after {self.updates} updates; level: {LEVEL}"


def spent(multipliers: Iterable[float], delta: float) -> Spent:
    """What these releases give away together.

    Args:
        multipliers: of each release, the noise's standard deviation in units of the norm it was clipped to.
        delta: in (0, 1).

    Raises:
        MissingExtraError: MS-J101 dp-accounting is not installed.
    """
    each = list(multipliers)
    if not each:
        return Spent(0.0, delta, 0)
    if min(each) <= 0:
        return Spent(math.inf, delta, len(each))
    sigma = 1 / math.sqrt(math.fsum((_APART / z) ** 2 for z in each))
    return Spent(float(_accounting().get_epsilon_gaussian(sigma, delta)), delta, len(each))


def multiplier_for(epsilon: float, delta: float, updates: int) -> float:
    """The noise multiplier with which so many updates give away `epsilon` at `delta`; the inverse of `spent`."""
    return _APART * math.sqrt(updates) * float(_accounting().get_sigma_gaussian(epsilon, delta))


def _accounting():
    if find_spec("dp_accounting") is None:
        what = "to state an epsilon needs dp-accounting, which is not installed"
        raise MissingExtraError("MS-J101", what, mend='type: pip install "medseg[federated]"')
    import dp_accounting

    return dp_accounting
