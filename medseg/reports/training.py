"""How a training went: loss and scores over the epochs, as a picture, a page and a table."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

from medseg.labels import PALETTE
from medseg.reports.curves import svg
from medseg.reports.markup import text
from medseg.reports.page import whole_page
from medseg.writers.atomic import write_bytes, write_text
from medseg.writers.tables import csv_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Columns of a row that are no score.
PLAIN = ("epoch", "step", "minutes", "rate", "loss")
TABLE, PICTURE, PAGE = "history.csv", "curves.png", "curves.html"


def training_figure(rows: Sequence[Mapping[str, float]]) -> Figure:
    """Loss at the left, scores at the right, between them distances in mm where there are any.

    Args:
        rows: one an epoch: `PLAIN`, and in epochs that were validated any scores by name; the first of them is drawn
            bold, the others thin.
    """
    from matplotlib.figure import Figure

    names = scores_of(rows)
    far = [name for name in names if _is_distance(name)]
    figure = Figure(figsize=(14 if far else 10, 4.2), dpi=100, layout="constrained")
    left, *middle, right = figure.subplots(1, 3 if far else 2)
    _axes(left, "Loss")
    _axes(right, "Validation")
    _line(left, rows, "loss", PALETTE[0], 2.0)
    for axes in middle:
        _axes(axes, "Validation, mm")
    for n, name in enumerate(names):
        axes = middle[0] if name in far else right
        _line(axes, rows, name, PALETTE[n % len(PALETTE)], 2.2 if n == 0 else 1.1)
    values = [row[name] for name in names if name not in far for row in rows if math.isfinite(row.get(name, math.nan))]
    if values and min(values) >= 0 and max(values) <= 1:
        right.set_ylim(0, 1)
    if names:
        box = figure.legend(loc="outside upper right", frameon=False, fontsize=9, ncols=min(len(names), 4))
        for entry in box.get_texts():
            entry.set_parse_math(False)
    return figure


def scores_of(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """Names of the scores, in the order in which they come up."""
    return list(dict.fromkeys(name for row in rows for name in row if name not in PLAIN))


def training_html(rows: Sequence[Mapping[str, float]], title: str) -> str:
    """The page as one string; it loads nothing."""
    names = scores_of(rows)
    last = next((row for row in reversed(rows) if any(name in row for name in names)), None)
    lines = []
    for name in names:
        known = [(row["epoch"], row[name]) for row in rows if math.isfinite(row.get(name, math.nan))]
        best = (min if _is_distance(name) else max)(known, key=lambda pair: pair[1], default=None)
        now = "" if last is None or name not in last else f"{last[name]:.4f}"
        told = "" if best is None else f"{best[1]:.4f} (epoch {best[0]:.0f})"
        lines.append(f"<tr><th scope='row'>{text(name)}</th><td>{now}</td><td>{told}</td></tr>")
    table = f"<table><thead><tr><th>Score</th><th>Last</th><th>Best</th></tr></thead><tbody>{''.join(lines)}</tbody></table>"
    done = f"<p>{rows[-1]['epoch']:.0f} epochs, {rows[-1]['step']:.0f} steps, {rows[-1]['minutes']:.1f} minutes; loss {rows[-1]['loss']:.4f}.</p>"
    body = f"<main><h1>{text(title)}</h1>{done}{table if names else ''}<figure>{svg(training_figure(rows))}</figure></main>"
    return whole_page(title, body, styles=("page.css",), scheme="light dark")


def write_training(folder: Path, rows: Sequence[Mapping[str, float]], title: str) -> None:
    """Write `history.csv`, `curves.png` and `curves.html` into a folder.

    Raises:
        OutputError: as `medseg.writers.atomic`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    if not rows:
        return
    write_text(folder / TABLE, csv_text([*PLAIN, *scores_of(rows)], rows))
    out = io.BytesIO()
    FigureCanvasAgg(training_figure(rows)).print_png(out, metadata={"Software": None})
    write_bytes(folder / PICTURE, out.getvalue())
    write_text(folder / PAGE, training_html(rows, title))


def _line(
    axes: Axes, rows: Sequence[Mapping[str, float]], name: str, colour: tuple[int, int, int], width: float
) -> None:
    known = [(row["epoch"], row[name]) for row in rows if math.isfinite(row.get(name, math.nan))]
    shade = tuple(channel / 255 for channel in colour)
    marker = "o" if len(known) == 1 else ""
    axes.plot([x for x, _ in known], [y for _, y in known], color=shade, linewidth=width, marker=marker, label=name)


def _is_distance(name: str) -> bool:
    return name.endswith("_mm")


def _axes(axes: Axes, y: str) -> None:
    axes.set_xlabel("Epoch")
    axes.set_ylabel(y)
    axes.grid(color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
