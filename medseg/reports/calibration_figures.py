"""Reliability diagram and risk-coverage curve as figures, without pyplot's global state: `figure.savefig(path)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from medseg.metrics.reliability import Reliability
    from medseg.metrics.selective import RiskCoverage

#: Of Paul Tol's "bright" scheme (see `medseg.labels.PALETTE`).
BLUE, RED, GREY = "#4477aa", "#ee6677", "#888888"


def reliability_figure(reliability: Reliability, *, title: str = "") -> Figure:
    """How often right at each confidence, against the diagonal of perfect calibration; below, how many voxels.

    Red is overconfidence: the bars end below the diagonal.

    Args:
        reliability: of one case or of many added up.
        title: above the diagram.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 5.4), dpi=100, layout="constrained")
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    filled = reliability.count > 0
    left, width = reliability.edges[:-1][filled], 1 / len(reliability.count)
    accuracy, confidence = reliability.accuracy[filled], reliability.confidence[filled]
    top.bar(left, accuracy, width, align="edge", color=BLUE, edgecolor="white", linewidth=0.6)
    over = np.maximum(confidence - accuracy, 0)
    top.bar(left, over, width, accuracy, align="edge", color=RED, alpha=0.45, linewidth=0)
    top.plot((0, 1), (0, 1), color=GREY, linestyle="--", linewidth=1)
    top.plot(confidence, accuracy, "o", color="black", markersize=2.5)
    top.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that is right")
    top.text(0.04, 0.96, _errors(reliability), transform=top.transAxes, va="top", fontsize=9)
    top.set_title(title, fontsize=11, parse_math=False)
    below.bar(left, reliability.count[filled], width, align="edge", color=GREY, edgecolor="white", linewidth=0.6)
    below.set(xlabel="confidence", ylabel="voxels")
    if filled.any():
        below.set_yscale("log")
        below.set_ylim(bottom=0.5)
    _plain(top, below)
    return figure


def risk_coverage_figure(curve: RiskCoverage, *, risk_name: str = "1 - Dice", title: str = "") -> Figure:
    """Mean risk of the cases kept against their share, between the best ranking possible and one by chance.

    Args:
        curve: of `medseg.metrics.selective.risk_coverage`.
        risk_name: what the risk is.
        title: above the curve.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.8), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.fill_between(curve.coverage, curve.oracle, curve.risk, color=BLUE, alpha=0.15, linewidth=0)
    axes.plot(curve.coverage, curve.risk, color=BLUE, linewidth=1.8, label=f"by uncertainty (AURC {curve.aurc:.4f})")
    axes.plot(curve.coverage, curve.oracle, color=GREY, linewidth=1.2, label=f"oracle (excess {curve.e_aurc:.4f})")
    axes.axhline(curve.mean_risk, color=RED, linestyle="--", linewidth=1, label=f"chance ({curve.mean_risk:.4f})")
    axes.set(xlim=(0, 1), xlabel="share of cases kept", ylabel=f"mean {risk_name} of those kept")
    axes.set_ylim(bottom=min(0.0, float(curve.oracle.min())))
    axes.set_title(title, fontsize=11, parse_math=False)
    axes.legend(frameon=False, fontsize=9)
    _plain(axes)
    return figure


def _errors(reliability: Reliability) -> str:
    return f"ECE {reliability.ece:.4f}\nACE {reliability.ace:.4f}\nMCE {reliability.mce:.4f}"


def _plain(*panels) -> None:
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
