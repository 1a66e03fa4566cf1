"""How good, and how spread: what all cases say together, at a glance and metric by metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.labels import PALETTE
from medseg.metrics.table import by_metric
from medseg.reports.distribution import axis_of, scale, strip
from medseg.reports.markup import row, table, text
from medseg.reports.numbers import better, infinite, metric_name, shown, spread

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from medseg.metrics.table import Aggregate, Row

    Summary = Mapping[str, Mapping[str, Aggregate]]


def colours_of(structures: Iterable[str]) -> dict[str, tuple[int, int, int]]:
    """Structure -> (red, green, blue), the same everywhere on the page."""
    return {name: PALETTE[n % len(PALETTE)] for n, name in enumerate(structures)}


def swatch(structure: str, colours: Mapping[str, tuple[int, int, int]]) -> str:
    """A structure's name behind its colour."""
    red, green, blue = colours.get(structure, (128, 128, 128))
    name = text(structure) if structure else "whole image"
    dot = f'<span class="swatch" style="background:rgb({red},{green},{blue})" aria-hidden="true"></span>'
    return f'<span class="structure">{dot}<span>{name}</span></span>'


def metrics_of(summary: Summary) -> list[str]:
    """Every metric once, in the order of the table."""
    return list(dict.fromkeys(metric for found in summary.values() for metric in found))


def glance(summary: Summary, metrics: Sequence[str]) -> str:
    """Structures by metrics: median over all cases, quartiles below, and how many have no finite value."""
    colours = colours_of(summary)
    rows = []
    for structure, found in summary.items():
        cells = [_glance_cell(found[metric], metric) if metric in found else "" for metric in metrics]
        if any(cells):
            n = max(found[metric].n for metric in metrics if metric in found)
            rows.append(row(swatch(structure, colours), [*cells, str(n)]))
    heads = [_heading(metric, summary) for metric in metrics]
    return table("Median and quartiles over all cases", ["Structure", *heads, "n"], rows, kind="glance")


def distributions(rows: Iterable[Row], summary: Summary, metrics: Sequence[str]) -> str:
    """One table a metric: every case a dot, and the numbers beside it."""
    grouped = by_metric(rows)
    return "".join(_distribution(grouped, summary, metric) for metric in metrics)


def _distribution(grouped: Mapping[tuple[str, str], list[Row]], summary: Summary, metric: str) -> str:
    colours = colours_of(summary)
    present = [structure for structure, found in summary.items() if metric in found]
    axis = axis_of([r.value for structure in present for r in grouped.get((structure, metric), ())], metric)
    rows = []
    for structure in present:
        found, cases = summary[structure][metric], grouped.get((structure, metric), [])
        picture = strip([r.case for r in cases], [r.value for r in cases], found, axis, metric)
        cells = [
            ("strip-cell", "", picture),
            ("num", "Median", f"<b>{shown(found.median, metric)}</b> <small>{spread(found, metric)}</small>"),
            ("num", "Mean, finite", f"{shown(found.mean, metric)} <small>{_of(found)}</small>"),
            ("num", "Mean, penalised", f"{shown(found.mean_penalised, metric)} <small>{_interval(found, metric)}</small>"),
            ("worst", "Worst", text(found.worst_case)),
        ]  # fmt: skip
        rows.append(row(swatch(structure, colours), cells))
    numbers = [("num", name) for name in ("Median, quartiles", "Mean over finite", "Mean, penalised")]
    heads = ["Structure", "Every case", *numbers, "Worst case"]
    foot = (
        '<tr role="row"><td role="cell"></td><td role="cell" class="strip-cell">' + scale(axis, metric) + "</td>"
        '<td role="cell" colspan="4"></td></tr>'
    )
    title = f'<h3 id="m-{text(metric)}">{_heading(metric, summary)}</h3>'
    return title + table(f"{metric_name(metric)} of every structure", heads, rows, foot=foot, kind="stack spread")


def _heading(metric: str, summary: Summary) -> str:
    """Name of the metric, how it was measured, and which way is better."""
    definitions = dict.fromkeys(found[metric].definition for found in summary.values() if metric in found)
    notes = [text(d) for d in definitions if d] + ([better(metric)] if better(metric) else [])
    return text(metric_name(metric)) + (f" <small>{', '.join(notes)}</small>" if notes else "")


def _glance_cell(found: Aggregate, metric: str) -> str:
    gone = f'<em class="bad">{infinite(found)}</em>' if infinite(found) else ""
    return f"<b>{shown(found.median, metric)}</b><small>{spread(found, metric)}</small>{gone}"


def _of(found: Aggregate) -> str:
    words = f"{found.n_finite} of {found.n}"
    return f'<em class="bad">{words}</em>' if found.n_finite < found.n else words


def _interval(found: Aggregate, metric: str) -> str:
    return f"[{shown(found.low, metric)}, {shown(found.high, metric)}]"
