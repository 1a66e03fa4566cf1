"""Curves of detection: precision against recall, and sensitivity against false positives per scan (FROC)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from medseg.labels import PALETTE
from medseg.metrics.instance import RATES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from medseg.metrics.instance import Froc, PrecisionRecall


def precision_recall_figure(curves: Mapping[str, PrecisionRecall]) -> Figure:
    """Precision-recall curves: thin as counted, bold as COCO's average precision reads them.

    Args:
        curves: name -> curve, drawn in this order; the legend adds AP, IoU and the number of instances.
    """
    figure, axes = _square("Recall", "Precision")
    for colour, (name, curve) in zip(_colours(len(curves)), curves.items(), strict=True):
        label = f"{name}: AP {curve.ap:.3f} at IoU {curve.iou:g}, n = {curve.n_ref}"
        best = np.maximum.accumulate(curve.precision[::-1])[::-1]
        end = curve.recall[-1:]  # beyond the last recall nothing more is found
        axes.step(
            np.concatenate([[0], curve.recall, end]),
            np.concatenate([best[:1], best, np.zeros(len(end))]) if len(end) else [0],
            where="pre",
            color=colour,
            linewidth=2,
            label=label,
        )
        axes.plot(curve.recall, curve.precision, color=colour, linewidth=0.8, alpha=0.5)
    _legend(figure, axes)
    return figure


def froc_figure(curves: Mapping[str, Froc]) -> Figure:
    """FROC curves from 1/8 to 8 false positives per scan, with the seven readings whose mean is the CPM.

    Args:
        curves: name -> curve, drawn in this order; one without lesions is named and has no line.
    """
    figure, axes = _square("False positives per scan", "Sensitivity")
    for colour, (name, curve) in zip(_colours(len(curves)), curves.items(), strict=True):
        if curve.cpm is None:
            axes.plot([], [], color=colour, label=f"{name}: no lesion in {curve.n_cases} scans")
            continue
        rate = np.union1d(np.geomspace(RATES[0], RATES[-1], 121), curve.false_positives)
        rate = rate[(rate >= RATES[0]) & (rate <= RATES[-1])]
        label = f"{name}: CPM {curve.cpm:.3f}, {curve.n_ref} lesions in {curve.n_cases} scans"
        axes.plot(
            rate, np.interp(rate, curve.false_positives, curve.sensitivity), color=colour, linewidth=2, label=label
        )
        axes.plot(RATES, np.interp(RATES, curve.false_positives, curve.sensitivity), "o", color=colour, markersize=5)
    axes.set_xscale("log", base=2)
    axes.set_xlim(RATES[0] / 1.1, RATES[-1] * 1.1)
    axes.set_xticks(RATES, ["1/8", "1/4", "1/2", "1", "2", "4", "8"])
    axes.minorticks_off()
    _legend(figure, axes)
    return figure


def svg(figure: Figure) -> str:
    """The figure as an <svg> element for a page, the same for the same figure; words stay words."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "medseg"}):
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def _square(x: str, y: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5), dpi=100, layout="constrained")
    axes = figure.add_subplot(xlabel=x, ylabel=y, xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _colours(n: int) -> list[tuple[float, float, float]]:
    found = [(r / 255, g / 255, b / 255) for r, g, b in PALETTE]
    return [found[k % len(found)] for k in range(n)]


def _legend(figure: Figure, axes: Axes) -> None:
    """Above the axes, where it hides no curve."""
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        box = figure.legend(handles=handles, loc="outside upper left", frameon=False, fontsize=9)
        for text in box.get_texts():
            text.set_parse_math(False)
