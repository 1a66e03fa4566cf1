"""Why a case stands where it does, in a few words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medseg.workflows.ranking.measures import Measures
    from medseg.workflows.ranking.order import Ranked

#: How a score stands to those of the pool: in its lower, middle or upper third.
DOUBT = ("less doubt than most", "as much doubt as most", "more doubt than most")
#: Distances to the nearest case before, in standard deviations of the pool; two cases at random are about 1.4 apart.
COPY, ALIKE, APART = 0.01, 0.3, 1.0


def reasons(places: Sequence[Ranked], measured: Mapping[str, Measures]) -> list[str]:
    """One line a case.

    Args:
        places: the whole pool in its order.
        measured: by case.
    """
    if not places:
        return []
    thirds = np.quantile([place.score for place in places], (1 / 3, 2 / 3))
    return [_reason(place, thirds, measured[place.name]) for place in places]


def _reason(place: Ranked, thirds: np.ndarray, measured: Measures) -> str:
    words = [DOUBT[1 - int(place.score < thirds[0]) + int(place.score > thirds[1])]]
    if not place.nearest:
        words = ["the most doubt of all"]
    elif place.distance < COPY:
        words.append(f"as good as a copy of {place.nearest}")
    elif place.distance < ALIKE:
        words.append(f"much like {place.nearest}")
    elif place.distance < APART:
        words.append(f"resembles {place.nearest}")
    else:
        words.append("unlike those before")
    if not measured.foreground_ml:
        words.append("nothing found")
    return ", ".join(words)
