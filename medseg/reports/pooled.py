"""Numbers over the instances of all cases together, alone or beside those of another prediction."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from medseg.reports.markup import paragraph, row, table, text
from medseg.reports.numbers import metric_name, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_WORDS = (
    "Every instance counts once, whatever its case; a mean over cases, as elsewhere on this page, gives a case with one "
    "instance the weight of a case with fifty. Intervals are percentile bootstraps over subjects."
)
_BESIDE = " The other prediction stands beside it; differences are over the same draws of subjects."


def pooled(lines: Sequence[Mapping[str, object]]) -> str:
    """The table; '' where there are no lines."""
    if not lines:
        return ""
    beside = any("other" in line for line in lines)
    more = ["Other", "Difference", "Its interval"] if beside else []
    heads = ["Structure", "Metric", *(("num", name) for name in ("Value", "Interval", *more))]
    body = []
    for line in lines:
        metric = str(line["metric"])

        def number(key: str, line: Mapping[str, object] = line, metric: str = metric) -> str:
            return shown(float(str(line.get(key, math.nan))), metric)

        cells = [
            ("", "Metric", text(metric_name(metric))),
            ("num", "Value", f"<b>{number('value')}</b>"),
            ("num", "Interval", f"{number('low')} to {number('high')}"),
        ]
        if beside:
            ends = f"{number('difference_low')} to {number('difference_high')}"
            cells += [
                ("num", name, found)
                for name, found in zip(more, (number("other"), number("difference"), ends), strict=True)
            ]
        body.append(row(text(line["structure"]), cells))
    return paragraph(_WORDS + _BESIDE * beside, "lead") + table(
        "Instances of all cases together", heads, body, kind="stack"
    )
