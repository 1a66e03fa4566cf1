"""Two predictions compared, and groups of patients compared: a difference, its interval, and where zero lies."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from medseg.reports.markup import row, table, text
from medseg.reports.numbers import metric_name, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Line = Mapping[str, object]


def comparison(lines: Sequence[Line]) -> str:
    """Differences with their bootstrap intervals, drawn against zero on one scale a metric; compare.csv holds more."""
    reach = _reach(lines)
    numbers = [("num", name) for name in ("Pairs", "Mean difference", "Interval")]
    heads = ["Structure", "Metric", *numbers, "Against zero", ("num", "p"), ("num", "p, Holm"), "Favours"]
    body = []
    for line in lines:
        metric = str(line.get("metric", ""))
        middle, low, high = (_number(line, key) for key in ("mean_difference", "low", "high"))
        cells = [
            ("", "Metric", _metric(line)),
            ("num", "Pairs", _n(line)),
            ("num", "Mean difference", shown(middle, metric)),
            ("num", "Interval", f"{shown(low, metric)} to {shown(high, metric)}"),
            ("whisker-cell", "", _whisker(middle, low, high, reach[metric])),
            ("num", "p", _p(_number(line, "p"))),
            ("num", "p, Holm", _p(_number(line, "p_holm"))),
            ("", "Favours", "unclear" if low <= 0 <= high else text(line.get("better", ""))),
        ]
        body.append(row(text(line.get("structure", "")), cells))
    return table("Differences between two predictions of the same cases", heads, body, kind="stack compare")


def groups(lines: Sequence[Line]) -> str:
    """Mean of each group with its interval; the worst one is marked and says how far behind it is."""
    numbers = [("num", name) for name in ("Cases", "Mean", "Interval")]
    heads = ["Group", "Structure", "Metric", *numbers, "Gap to the best"]
    body = []
    for line in lines:
        metric = str(line.get("metric", ""))
        worst = str(line.get("is_worst", "")).lower() in ("true", "1", "yes")
        mean, low, high, gap = (shown(_number(line, key), metric) for key in ("mean", "low", "high", "gap"))
        cells = [
            ("", "Structure", text(line.get("structure", ""))),
            ("", "Metric", _metric(line)),
            ("num", "Cases", _n(line)),
            ("num", "Mean", mean),
            ("num", "Interval", f"{low} to {high}"),
            ("", "Gap to the best", f'<b class="bad">worst</b>, gap {gap}' if worst else ""),
        ]
        body.append(row(text(line.get("group", "")), cells))
    return table("Groups of cases", heads, body, kind="stack groups")


def _reach(lines: Sequence[Line]) -> dict[str, float]:
    """Metric -> the largest finite end of an interval, which all intervals of the metric are drawn against."""
    out: dict[str, float] = {}
    for line in lines:
        ends = [abs(_number(line, key)) for key in ("low", "high", "mean_difference")]
        metric = str(line.get("metric", ""))
        out[metric] = max([out.get(metric, 0.0), *(end for end in ends if math.isfinite(end))])
    return {metric: end or 1.0 for metric, end in out.items()}


def _whisker(middle: float, low: float, high: float, reach: float) -> str:
    def place(value: float) -> float:
        return 50 + 46 * max(-1.08, min(1.08, value / reach))  # what is infinite ends at the edge

    parts = ['<line class="zero" x1="50%" x2="50%" y1="1" y2="21"/>']
    if not (math.isnan(low) or math.isnan(high)):
        parts.append(f'<line class="interval" x1="{place(low):.1f}%" x2="{place(high):.1f}%" y1="11" y2="11"/>')
    if not math.isnan(middle):
        parts.append(f'<circle cx="{place(middle):.1f}%" cy="11" r="3.5"/>')
    return f'<svg class="whisker" aria-hidden="true" width="100%" height="22">{"".join(parts)}</svg>'


def _metric(line: Line) -> str:
    definition = str(line.get("definition", ""))
    return text(metric_name(str(line.get("metric", "")))) + (
        f" <small>{text(definition)}</small>" if definition else ""
    )


def _n(line: Line) -> str:
    """How many, and of how many subjects where one has several scans."""
    n, subjects = str(line.get("n", "")), str(line.get("n_subjects", ""))
    return text(n if subjects in ("", n) else f"{n} of {subjects} subjects")


def _p(value: float) -> str:
    if math.isnan(value):
        return ""
    return "&lt; 0.001" if value < 0.001 else f"{value:.3f}"


def _number(line: Line, key: str) -> float:
    """A number as it is or as CSV holds it; nan where there is none."""
    try:
        return float(str(line.get(key, "")))
    except ValueError:
        return math.nan
