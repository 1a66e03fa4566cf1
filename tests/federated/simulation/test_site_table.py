"""The table at the end, by hand."""

from __future__ import annotations

import math

from medseg.federated.server_table import key_metric, scalars_of
from medseg.federated.simulation.site_table import site_table


def used(cases, **metrics):
    return {"outcome": "used", "cases": cases, "steps": 3, "metrics": {"loss": 1.0, **metrics}}


def scored(**metrics):
    return {"outcome": "tested", "metrics": metrics}


ROWS = [
    {"round": 0, "sites": {"a": used(8, dice=0.1), "b": used(4), "t": scored(dice=0.2)}, "drift": 3.0},
    {
        "round": 1,
        "sites": {"a": scored(**{"dice": 0.5, "dice/left": 0.4}), "b": {"outcome": "missing"}, "t": scored(dice=0.9)},
    },
]


def test_every_site_the_mean_and_the_worst():
    table = site_table(ROWS, ["a", "b", "t"])
    assert table.metric == "dice"
    assert table.columns == ("site", "training cases", "global")
    sites, mean, worst = table.rows[:3], *table.rows[3:]
    assert [row["training cases"] for row in sites] == [8, 4, 0]
    assert sites[0]["global"] == 0.5
    assert math.isnan(sites[1]["global"])  # the site was not there any more: it is not left out of the table
    assert mean["global"] == (0.5 + 0.9) / 2
    assert worst["global"] == 0.5
    assert [row["site"] for row in (mean, worst)] == ["mean", "worst"]


def test_models_are_columns_and_distances_are_worst_when_large():
    table = site_table(ROWS, ["a", "t"]).with_model("central", {"a": 0.6, "t": 0.7})
    assert table.columns[-1] == "central"
    assert table.rows[-1]["central"] == 0.6
    rows = [{"round": 0, "sites": {"a": scored(hd95_mm=2.0), "b": scored(hd95_mm=9.0)}}]
    assert site_table(rows, ["a", "b"]).rows[-1]["global"] == 9.0


def test_what_tensorboard_is_told():
    assert scalars_of(ROWS[0]) == {
        "loss/a": 1.0, "dice/a": 0.1, "loss/b": 1.0, "dice/t": 0.2, "dice/mean": (0.1 + 0.2) / 2, "dice/worst": 0.1, "drift": 3.0,
    }  # fmt: skip
    assert "dice/left" not in scalars_of(ROWS[1])
    assert key_metric([]) is None
    assert site_table([{"round": 0, "sites": {}}], ["a"]).metric == ""
