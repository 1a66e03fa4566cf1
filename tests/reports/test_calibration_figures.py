import io

import numpy as np
import pytest
from matplotlib.colors import to_hex

from medseg.metrics.reliability import Reliability
from medseg.metrics.selective import risk_coverage
from medseg.reports.calibration_figures import RED, reliability_figure, risk_coverage_figure

#: Four bins: right as often as sure, unsure, too sure, empty.
DIAGRAM = Reliability(np.array([10, 100, 1000, 0]), np.array([1, 60, 500, 0]), np.array([1.0, 40.0, 700.0, 0.0]))


def png(figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def bars(axes, colour=None):
    return [b for b in axes.patches if colour is None or to_hex(b.get_facecolor()) == colour]


def test_bars_are_the_accuracies_and_red_is_overconfidence():
    figure = reliability_figure(DIAGRAM, title="left $ hippocampus")
    top, below = figure.axes
    red = bars(top, RED)
    blue = [b for b in bars(top) if b not in red]
    assert [b.get_height() for b in blue] == pytest.approx([0.1, 0.6, 0.5])
    assert [b.get_x() for b in blue] == [0, 0.25, 0.5]
    assert [b.get_height() for b in red] == pytest.approx([0, 0, 0.2])
    assert [b.get_height() for b in bars(below)] == [10, 100, 1000]
    assert f"ECE {220 / 1110:.4f}" in top.texts[0].get_text()
    assert png(figure).startswith(b"\x89PNG")


def test_a_diagram_without_voxels_is_drawn_empty():
    none = Reliability(np.zeros(20, int), np.zeros(20, int), np.zeros(20))
    figure = reliability_figure(none)
    assert bars(figure.axes[0]) == []
    assert "ECE nan" in figure.axes[0].texts[0].get_text()
    assert png(figure)


def test_the_curve_lies_between_oracle_and_chance():
    curve = risk_coverage([0.5, 0.1, 0.3], [2.0, 1.0, 3.0])
    figure = risk_coverage_figure(curve, title="3 cases")
    mine, oracle, chance = figure.axes[0].lines
    assert list(mine.get_ydata()) == pytest.approx([0.1, 0.3, 0.3])
    assert list(oracle.get_ydata()) == pytest.approx([0.1, 0.2, 0.3])
    assert list(chance.get_ydata()) == pytest.approx([0.3, 0.3])
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["by uncertainty (AURC 0.2333)", "oracle (excess 0.0333)", "chance (0.3000)"]
    assert png(figure)


def test_one_case_is_drawn():
    assert png(risk_coverage_figure(risk_coverage([0.2], [1.0]), risk_name="1 - Dice of the liver"))


def test_no_global_state_of_pyplot_is_touched():
    from matplotlib import _pylab_helpers

    reliability_figure(DIAGRAM)
    assert _pylab_helpers.Gcf.get_num_fig_managers() == 0
