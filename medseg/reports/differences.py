"""Two predictions compared, and groups of patients compared: a difference, its interval, and where zero lies."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from medseg.reports.markup import row, table, text
from medseg.reports.numbers import metric_name, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Line = Mapping[str, object]

_NAMES = {
    "n": "Pairs",
    "mean_difference": "Mean difference",
    "median_difference": "Median difference",
    "p": "p",
    "p_holm": "p, Holm",
}
_P = ("p", "p_value", "p_holm")


def comparison(lines: Sequence[Line]) -> str:
    """Differences with their bootstrap intervals drawn against zero, one scale a metric."""
    reach = _reach(lines)
    plain = [k for k in dict.fromkeys(key for line in lines for key in line) if k not in ("structure", "low", "high")]
    heads = ["Structure", *(_head(k, lines) for k in plain), ("num", "95 % interval"), "Against zero"]
    body = []
    for line in lines:
        metric = str(line.get("metric", ""))
        low, high = (_number(line.get(k)) for k in ("low", "high"))
        cells = [_cell(line.get(key, ""), key, metric) for key in plain]
        cells += [("num", "95 % interval", f"{shown(low, metric)} to {shown(high, metric)}")]
        middle = _number(line.get("mean_difference"))
        cells += [("whisker-cell", "", _whisker(middle, low, high, reach.get(metric, 1.0)))]
        body.append(row(text(line.get("structure", "")), cells))
    return table("Differences between two predictions of the same cases", heads, body, kind="stack compare")


def groups(lines: Sequence[Line]) -> str:
    """Mean of each group with its interval; the worst one is marked and says how far behind it is."""
    plain = ("structure", "metric", "n", "mean", "low", "high", "is_worst", "gap", "group")
    more = [k for k in dict.fromkeys(key for line in lines for key in line) if k not in plain]
    numbers = [("num", name) for name in ("n", "Mean", "95 % interval")]
    heads = ["Group", "Structure", "Metric", *numbers, "Gap to the best", *(_head(k, lines) for k in more)]
    body = []
    for line in lines:
        metric = str(line.get("metric", ""))
        worst = str(line.get("is_worst", "")).lower() in ("true", "1", "yes")
        low, high = (shown(_number(line.get(k)), metric) for k in ("low", "high"))
        cells = [("", "Structure", text(line.get("structure", ""))), ("", "Metric", text(metric_name(metric)))]
        cells += [("num", "n", text(line.get("n", ""))), _cell(line.get("mean", ""), "mean", metric)]
        cells += [("num", "95 % interval", f"{low} to {high}")]
        gap = f'<b class="bad">worst</b>, gap {shown(_number(line.get("gap")), metric)}' if worst else ""
        cells += [("", "Gap to the best", gap), *(_cell(line.get(k, ""), k, metric) for k in more)]
        body.append(row(text(line.get("group", "")), cells, "worst-group" if worst else ""))
    return table("Groups of cases", heads, body, kind="stack groups")


def _reach(lines: Sequence[Line]) -> dict[str, float]:
    """Metric -> the largest finite end of an interval, which all intervals of the metric are drawn against."""
    out: dict[str, float] = {}
    for line in lines:
        ends = [abs(_number(line.get(k))) for k in ("low", "high", "mean_difference")]
        metric = str(line.get("metric", ""))
        out[metric] = max([out.get(metric, 0.0), *(e for e in ends if math.isfinite(e))])
    return {metric: end or 1.0 for metric, end in out.items()}


def _whisker(middle: float, low: float, high: float, reach: float) -> str:
    def place(value: float) -> float:
        return 50 + 46 * max(-1.08, min(1.08, value / reach))

    parts = ['<line class="zero" x1="50%" x2="50%" y1="1" y2="21"/>']
    if not (math.isnan(low) or math.isnan(high)):
        parts.append(f'<line class="interval" x1="{place(low):.1f}%" x2="{place(high):.1f}%" y1="11" y2="11"/>')
    if not math.isnan(middle):
        parts.append(f'<circle cx="{place(middle):.1f}%" cy="11" r="3.5"/>')
    return f'<svg class="whisker" aria-hidden="true" width="100%" height="22">{"".join(parts)}</svg>'


def _cell(value: object, key: str, metric: str) -> tuple[str, str, str]:
    label = _NAMES.get(key, _words(key))
    if key == "metric":
        return "", label, text(metric_name(str(value)))
    number = _number(value)
    if math.isnan(number):
        return "", label, text(value)
    if key in _P:
        return "num", label, "&lt; 0.001" if number < 0.001 else f"{number:.3f}"
    if number.is_integer() and key.startswith("n"):
        return "num", label, f"{number:.0f}"
    return "num", label, shown(number, metric)


def _head(key: str, lines: Sequence[Line]) -> tuple[str, str]:
    kinds = {_cell(line[key], key, "")[0] for line in lines if key in line}
    return "num" if kinds == {"num"} else "", _NAMES.get(key, _words(key))


def _number(value: object) -> float:
    """A number as it is or as CSV holds it; nan for anything else."""
    try:
        return float(str(value))
    except ValueError:
        return math.nan


def _words(key: str) -> str:
    return text(key.replace("_", " ").capitalize())
