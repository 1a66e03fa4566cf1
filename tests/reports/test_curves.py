from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from medseg.metrics.instance import RATES, Hits, PrecisionRecall, froc_curve
from medseg.reports.curves import froc_figure, precision_recall_figure, svg


def hits(scores, n_ref, *pairs):
    return Hits(np.array(scores, float), n_ref, np.array(pairs, np.int64).reshape(-1, 2))


FROC = froc_curve([hits([0.9, 0.8, 0.7], 2, (0, 0)), hits([0.6], 1, (0, 0))])
CURVE = PrecisionRecall(
    0.5, np.array([0.9, 0.8, 0.7]), np.array([1, 1 / 2, 2 / 3]), np.array([1, 1, 2]) / 3, np.array([1, 1, 2]), 3
)
NOTHING = PrecisionRecall(0.5, *[np.empty(0)] * 4, 3)


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_precision_recall_shows_what_was_counted_and_what_coco_reads():
    figure = precision_recall_figure({"masks": CURVE, "none": NOTHING})
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Recall", "Precision")
    assert legend(figure) == ["masks: AP 0.554 at IoU 0.5, n = 3", "none: AP 0.000 at IoU 0.5, n = 3"]
    bold, thin = axes.lines[:2]
    assert np.array(bold.get_xdata()) == pytest.approx([0, 1 / 3, 1 / 3, 2 / 3, 2 / 3])
    assert np.array(bold.get_ydata()) == pytest.approx([1, 1, 2 / 3, 2 / 3, 0])
    assert np.array(thin.get_ydata()) == pytest.approx([1, 1 / 2, 2 / 3])


def test_froc_is_read_at_seven_rates():
    figure = froc_figure({"IoU >= 0.1": FROC, "no lesions": froc_curve([hits([0.5], 0)])})
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("False positives per scan", "Sensitivity")
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1/8", "1/4", "1/2", "1", "2", "4", "8"]
    assert legend(figure) == [
        f"IoU >= 0.1: CPM {FROC.cpm:.3f}, 3 lesions in 2 scans",
        "no lesions: no lesion in 1 scans",
    ]
    line, dots = axes.lines[:2]
    assert dots.get_xdata() == pytest.approx(RATES)
    assert dots.get_ydata() == pytest.approx([FROC.at(rate) for rate in RATES])
    assert (line.get_xdata().min(), line.get_xdata().max()) == (RATES[0], RATES[-1])


@pytest.mark.parametrize("draw", [precision_recall_figure, froc_figure])
def test_without_curves_there_are_axes_alone(draw):
    assert draw({}).legends == []


def test_svg_is_one_element_that_does_not_change_and_takes_names_literally():
    curves = {"a <b> & $c$": FROC}
    text = svg(froc_figure(curves))
    assert text == svg(froc_figure(curves))
    root = ET.fromstring(text)
    assert root.tag.endswith("svg")
    assert any("a <b> & $c$" in (node.text or "") for node in root.iter())
