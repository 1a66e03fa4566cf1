from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.metrics.table import Row, aggregate, by_metric, direction, summarise

INF = math.inf


def rows(values, metric="hd95_mm", status="ok", subjects=None):
    names = subjects or [f"case {n}" for n in range(len(values))]
    return [
        Row(f"case {n}", s, "liver", metric, "border", v, status)
        for n, (v, s) in enumerate(zip(values, names, strict=False))
    ]


def diagonals(found, mm=100.0):
    return {row.case: mm for row in found}


def test_two_of_three_predictions_empty_never_read_as_good():
    # MONAI's HausdorffDistanceMetric reports a mean HD95 of 0.0 here.
    found = rows([0.0, INF, INF])
    a = aggregate(found, diagonals(found))
    assert (a.n, a.n_finite) == (3, 1)
    assert a.median == INF
    assert a.q1 == INF
    assert a.mean_penalised == pytest.approx(200 / 3)
    assert a.mean == 0.0  # never shown without "1 of 3"
    assert a.high > 60
    assert a.worst_case == "case 1"
    dice = rows([1.0, 0.0, 0.0], "dice")
    assert aggregate(dice, diagonals(dice)).mean_penalised == pytest.approx(1 / 3)


def test_every_case_failed():
    found = rows([INF, INF])
    a = aggregate(found, diagonals(found))
    assert math.isnan(a.mean)
    assert (a.median, a.mean_penalised, a.low, a.high) == (INF, 100.0, 100.0, 100.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_quartiles_equal_numpy(values):
    found = rows(values, "dice")
    a = aggregate(found, diagonals(found), draws=10)
    assert (a.q1, a.median, a.q3) == pytest.approx(tuple(np.quantile(values, [0.25, 0.5, 0.75])))
    assert (a.mean, a.mean_penalised) == pytest.approx((np.mean(values),) * 2)


@given(st.lists(st.one_of(st.floats(0, 50), st.just(INF)), min_size=1, max_size=12))
def test_an_aggregate_is_never_nan_nor_better_than_its_finite_part(values):
    found = rows(values)
    a = aggregate(found, diagonals(found), draws=50)
    assert not math.isnan(a.median)
    assert a.mean_penalised >= (0 if math.isnan(a.mean) else a.mean - 1e-9)
    assert a.low <= a.high


def test_subjects_are_drawn_not_scans():
    # 20 equal scans of one subject and one of another: as scans the interval is narrow, as subjects it is not.
    values = [0.9] * 20 + [0.1]
    scans = rows(values, "dice")
    people = rows(values, "dice", subjects=["a"] * 20 + ["b"])
    one, other = (aggregate(found, diagonals(found)) for found in (scans, people))
    assert one.low > 0.6
    assert other.low == pytest.approx(0.1)


def test_worst_case_by_direction():
    assert aggregate(rows([0.2, 0.9], "dice"), {"case 0": 1.0, "case 1": 1.0}).worst_case == "case 0"
    assert aggregate(rows([0.2, 0.9]), {"case 0": 1.0, "case 1": 1.0}).worst_case == "case 1"
    assert aggregate(rows([0.2, -0.9], "volume_difference_ml"), {"case 0": 1.0, "case 1": 1.0}).worst_case == "case 1"


@pytest.mark.parametrize(
    ("metric", "sign"),
    [
        ("dice", 1),
        ("nsd@1mm", 1),
        ("hd_mm", -1),
        ("hd95_mm", -1),
        ("assd_mm", -1),
        ("volume_pred_ml", 0),
        ("n_pred", 0),
        ("f1@0.5iou", 1),
        ("hd95_matched_mm@0.1iou", -1),
        ("matched@0.5iou", 0),
        ("boundary_f1@1mm", 1),
    ],
)
def test_direction(metric, sign):
    assert direction(metric) == sign


def test_summary_by_structure_and_metric():
    found = [*rows([1.0, 2.0]), *rows([0.5, 0.7], "dice")]
    assert list(by_metric(found)) == [("liver", "hd95_mm"), ("liver", "dice")]
    table = summarise(found, diagonals(found), draws=10)
    assert table["liver"]["dice"].mean == pytest.approx(0.6)
    assert table["liver"]["hd95_mm"].definition == "border"
