"""Curves of a training: what is drawn, told and written."""

from __future__ import annotations

import csv
import math

import pytest
from matplotlib.image import imread

from medseg.reports.training import scores_of, training_figure, training_html, write_training


def rows(n: int = 6) -> list[dict[str, float]]:
    out = []
    for epoch in range(1, n + 1):
        row = {"epoch": epoch, "step": 4 * epoch, "minutes": epoch / 2, "rate": 0.1, "loss": 1 / epoch}
        out.append(row | ({"dice": 0.1 * epoch, "Left <lobe>": 0.05 * epoch} if epoch % 2 == 0 else {}))
    return out


def test_loss_is_drawn_of_every_epoch_and_scores_of_those_validated():
    figure = training_figure(rows())
    left, right = figure.axes
    assert left.lines[0].get_xydata().tolist() == [[e, 1 / e] for e in range(1, 7)]
    assert [line.get_label() for line in right.lines] == ["dice", "Left <lobe>"]
    assert right.lines[0].get_xdata().tolist() == [2, 4, 6]
    assert right.get_ylim() == (0, 1)
    assert right.lines[0].get_linewidth() > right.lines[1].get_linewidth()


def test_what_is_not_finite_is_left_out():
    told = rows()
    told[0]["loss"] = math.nan
    told[3]["dice"] = math.inf
    left, right = training_figure(told).axes
    assert len(left.lines[0].get_xdata()) == 5
    assert right.lines[0].get_xdata().tolist() == [2, 6]


def test_the_page_tells_last_and_highest_and_escapes_names():
    told = rows()
    told[3]["dice"] = 0.95
    page = training_html(told, "Run <1>")
    assert "Run &lt;1&gt;" in page
    assert "Left &lt;lobe&gt;" in page
    assert "<lobe>" not in page
    assert "0.6000</td><td>0.9500 (epoch 4)" in page
    assert "<svg" in page
    assert "Research use only" in page


def test_files_are_written_whole_and_a_table_has_every_column(tmp_path):
    write_training(tmp_path / "training", rows(), "Run")
    assert sorted(p.name for p in (tmp_path / "training").iterdir()) == ["curves.html", "curves.png", "history.csv"]
    assert imread(tmp_path / "training" / "curves.png").shape[2] == 4
    with (tmp_path / "training" / "history.csv").open(encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert list(read[0]) == ["epoch", "step", "minutes", "rate", "loss", "dice", "Left <lobe>"]
    assert read[0]["dice"] == ""
    assert float(read[5]["Left <lobe>"]) == pytest.approx(0.3)
    write_training(tmp_path / "none", [], "Run")
    assert not (tmp_path / "none").exists()


def test_a_run_without_validation_has_no_scores():
    told = [{key: value for key, value in row.items() if key not in ("dice", "Left <lobe>")} for row in rows()]
    assert scores_of(told) == []
    assert "<table>" not in training_html(told, "Run")


def test_distances_have_axes_of_their_own_and_the_least_is_their_best():
    rows = [
        {"epoch": float(n), "step": 5.0 * n, "minutes": 1.0, "rate": 0.1, "loss": 1.0, "dice": dice, "hd95_mm": far}
        for n, (dice, far) in enumerate([(0.5, 30.0), (0.8, 4.25), (0.7, 9.0)], 1)
    ]
    loss, distances, scores = training_figure(rows).axes
    assert [list(line.get_ydata()) for line in distances.lines] == [[30.0, 4.25, 9.0]]
    assert [list(line.get_ydata()) for line in scores.lines] == [[0.5, 0.8, 0.7]]
    assert scores.get_ylim() == (0, 1)
    assert "mm" in distances.get_ylabel()
    assert len(loss.lines) == 1
    page = training_html(rows, "Run")
    assert "<td>9.0000</td><td>4.2500 (epoch 2)</td>" in page
    assert "<td>0.7000</td><td>0.8000 (epoch 2)</td>" in page
    assert len(training_figure([{k: v for k, v in row.items() if k != "hd95_mm"} for row in rows]).axes) == 2
