"""What of an evaluator travels."""

from __future__ import annotations

import math
from types import SimpleNamespace

import torch

from medseg.federated.scores import scores_of


def evaluator(metrics, details):
    return SimpleNamespace(
        state=SimpleNamespace(key_metric_name="dice", metrics=metrics, metric_details={"dice": details})
    )


def test_the_key_metric_its_structures_and_the_others():
    details = torch.tensor([[0.5, 1.0], [0.7, math.nan]])
    found = scores_of(
        evaluator({"hd": torch.tensor(3.0), "dice": 0.7, "confusion": torch.ones(2, 2)}, details), ["left", "right"]
    )
    assert list(found) == ["dice", "dice/left", "dice/right", "hd"]
    assert abs(found["dice/left"] - 0.6) < 1e-6
    assert found["dice/right"] == 1.0


def test_what_is_not_finite_or_does_not_fit_is_left_out():
    found = scores_of(evaluator({"dice": math.nan, "hd": math.inf}, torch.full((2, 2), math.nan)), ["left", "right"])
    assert found == {}
    assert scores_of(evaluator({"dice": 0.5}, torch.ones(2, 3)), ["left", "right"]) == {"dice": 0.5}
    assert scores_of(evaluator({"dice": 0.5}, None), ["left"]) == {"dice": 0.5}
