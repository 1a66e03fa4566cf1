"""The case table, one row a number, and what it says of a whole data set.

Nothing leaves the table in silence: a structure that was missed has distance `inf` there, a case without a prediction
has the worst value of every metric, and each aggregate says of how many values it speaks.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.metrics.bootstrap import bootstrap_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: Columns of cases.csv.
COLUMNS = ("case", "subject", "structure", "metric", "definition", "value", "status")

#: Metrics of which less is better begin so; of all others but volumes more is better.
_LESS = ("hd", "assd", "masd", "ece", "ace", "mce", "brier", "nll", "aurc", "e_aurc", "ause", "silent_missed")


@dataclass(frozen=True)
class Row:
    """One number.

    Args:
        case: name of the case.
        subject: whose scan it is; the case itself unless a list of cases says so.
        structure: what was scored.
        metric: its name, unit included, such as 'hd95_mm'.
        definition: how it was measured, such as 'border', '' where there is only one way.
        value: finite, or infinite where a distance has no end.
        status: 'ok', 'both_empty', 'pred_empty', 'ref_empty', or 'pred_missing' for a case without prediction.
    """

    case: str
    subject: str
    structure: str
    metric: str
    definition: str
    value: float
    status: str


@dataclass(frozen=True)
class Aggregate:
    """One metric of one structure over all cases.

    Args:
        definition: as in the rows.
        n: cases with a value, infinite ones counted.
        n_finite: those with a finite one.
        median: over all n (infinite values count as largest).
        q1: first quartile of all n.
        q3: third quartile of all n.
        mean: over the n_finite finite values, nan if there are none; never report it without "n_finite of n".
        mean_penalised: over all n, an infinite distance replaced by the image's diagonal in mm.
        low: lower end of the bootstrap interval of `mean_penalised`.
        high: its upper end.
        worst_case: name of the case with the worst value.
    """

    definition: str
    n: int
    n_finite: int
    median: float
    q1: float
    q3: float
    mean: float
    mean_penalised: float
    low: float
    high: float
    worst_case: str


def direction(metric: str) -> int:
    """1 where more is better, -1 where less is better, 0 where neither is (volumes, counts)."""
    if metric.startswith(("volume_", "n_", "matched")):
        return 0
    return -1 if metric.startswith(_LESS) else 1


def by_metric(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    """(structure, metric) -> its rows, in the order of the table."""
    out: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        out[row.structure, row.metric].append(row)
    return dict(out)


def penalised(rows: Sequence[Row], diagonals_mm: Mapping[str, float]) -> np.ndarray:
    """(n,) values, an infinite distance replaced by its image's diagonal in mm."""
    return np.array([row.value if math.isfinite(row.value) else diagonals_mm[row.case] for row in rows])


def aggregate(
    rows: Sequence[Row], diagonals_mm: Mapping[str, float], *, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> Aggregate:
    """What the rows of one metric of one structure say together.

    Args:
        rows: one a case, at least one.
        diagonals_mm: case -> diagonal of its image, mm.
        level: of the bootstrap interval.
        draws: bootstrap samples; whole subjects are drawn, with all their scans.
        seed: of the draws.
    """
    values = np.array([row.value for row in rows], np.float64)
    finite = values[np.isfinite(values)]
    kept = penalised(rows, diagonals_mm)
    subjects = [row.subject for row in rows]
    interval = bootstrap_interval(kept, groups=subjects, level=level, draws=draws, seed=seed)
    q1, median, q3 = (_quantile(values, q) for q in (0.25, 0.5, 0.75))
    sign = direction(rows[0].metric)
    worst = int(np.argmin(values * sign)) if sign else int(np.argmax(np.abs(values)))
    return Aggregate(
        rows[0].definition, len(values), len(finite), median, q1, q3, float(finite.mean()) if finite.size else math.nan,
        interval.estimate, interval.low, interval.high, rows[worst].case,
    )  # fmt: skip


def summarise(rows: Iterable[Row], diagonals_mm: Mapping[str, float], **options) -> dict[str, dict[str, Aggregate]]:
    """Structure -> metric -> `aggregate` of its rows; `options` go there."""
    out: dict[str, dict[str, Aggregate]] = defaultdict(dict)
    for (structure, metric), found in by_metric(rows).items():
        out[structure][metric] = aggregate(found, diagonals_mm, **options)
    return dict(out)


def _quantile(values: np.ndarray, q: float) -> float:
    """Linear interpolation between order statistics; towards an infinite neighbour it is infinite, never nan."""
    ordered = np.sort(values)
    place = q * (len(ordered) - 1)
    low = int(place)
    share = place - low
    if share == 0.0:
        return float(ordered[low])
    a, b = float(ordered[low]), float(ordered[low + 1])
    return b if math.isinf(b) else a + share * (b - a)
