import math

import pytest

from medseg.reports.numbers import better, metric_name, shown


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        ("dice", "Dice"),
        ("hd95_mm", "HD95 (mm)"),
        ("hd_mm", "HD (mm)"),
        ("nsd@1mm", "NSD at 1 mm"),
        ("nsd@0.5mm", "NSD at 0.5 mm"),
        ("volume_difference_ml", "Volume difference (mL)"),
        ("volume_ref_ml", "Volume reference (mL)"),
        ("cldice", "clDice"),
        ("f1@0.5", "F1 at 0.5"),
        ("n_new", "Number of new"),
        ("my_own_score", "My own score"),
        ("_", "_"),
        ("", ""),
    ],
)
def test_names(metric, name):
    assert metric_name(metric) == name


@pytest.mark.parametrize(
    ("value", "metric", "written"),
    [
        (0.87654, "dice", "0.877"),
        (1.0, "dice", "1.000"),
        (math.inf, "hd95_mm", "inf"),
        (-math.inf, "hd95_mm", "−inf"),
        (math.nan, "dice", "n/a"),
        (3.14159, "hd95_mm", "3.14"),
        (12.3456, "volume_pred_ml", "12.35"),
        (-0.2345, "volume_difference_ml", "−0.234"),
        (0.2, "volume_difference_ml", "+0.200"),
        (-0.00004, "volume_difference_ml", "0.000"),
        (7.0, "n_new", "7"),
        (2.5, "n_new", "2.500"),
    ],
)
def test_values(value, metric, written):
    assert shown(value, metric) == written


def test_which_way_is_better():
    assert [better(m) for m in ("dice", "hd95_mm", "volume_ref_ml")] == ["higher is better", "lower is better", ""]
