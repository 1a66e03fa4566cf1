"""What many numbers are like, in seven quantiles: enough to compare and to pool, too little to say which case had which.

Of few cases they say nearly all: of five, three quantiles are single cases' numbers, and up to eleven the two lowest and the
two greatest can be computed. That is what a site's `--at-least` is for.

Worked example: voxel sizes 1, 1, 1, 2 and 3 mm have the quartiles 1, 1 and 2; pooled with a site of one million cases of
1 mm, all of them are 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: The quantiles that are kept, not the least and the greatest, which say most of one case.
PROBS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
#: Of more cases so many stand for a site when sites are pooled.
_MOST = 2000
#: Quartiles of a normal distribution lie so many standard deviations apart.
_QUARTILES = 1.349


@dataclass(frozen=True)
class Sketch:
    """Quantiles of one number over the cases of a site.

    Args:
        n: how many cases.
        values: its quantiles at `PROBS`, four significant digits.
    """

    n: int
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Its middle."""
        return self.values[PROBS.index(0.5)]

    @property
    def spread(self) -> float:
        """A standard deviation by the quartiles, which outliers do not touch."""
        return (self.values[PROBS.index(0.75)] - self.values[PROBS.index(0.25)]) / _QUARTILES

    def cases(self, n: int | None = None) -> np.ndarray:
        """`n` (as many as there are) numbers with these quantiles, ascending; what lies beyond the outer two is theirs."""
        n = self.n if n is None else n
        return np.interp((np.arange(n) + 0.5) / max(n, 1), PROBS, self.values)


def sketch_of(numbers: Iterable[float]) -> Sketch | None:
    """The sketch of some finite numbers; None of none."""
    found = np.asarray([x for x in numbers if math.isfinite(x)], np.float64)
    if not found.size:
        return None
    return Sketch(len(found), tuple(rounded(x) for x in np.quantile(found, PROBS)))


def pooled(sketches: Sequence[Sketch | None]) -> Sketch | None:
    """The sketch of all cases of several sites, each case with the same weight; None where no site has one."""
    held = [one for one in sketches if one is not None]
    if not held:
        return None
    total = sum(one.n for one in held)
    share = min(1.0, _MOST / total)
    found = sketch_of(np.concatenate([one.cases(max(1, round(share * one.n))) for one in held]))
    return None if found is None else Sketch(total, found.values)


def rounded(value: float, digits: int = 4) -> float:
    """To so many significant digits."""
    return float(f"{float(value):.{digits}g}")
