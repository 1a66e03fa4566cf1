"""Results are bundles with other weights, and without what was fitted for the old ones."""

from __future__ import annotations

import json
import shutil

import torch

from medseg.bundle.config import read_config
from medseg.bundle.load import load_bundle
from medseg.bundle.weights import read_weights
from medseg.federated.initial import initial_state
from medseg.federated.results import write_result
from medseg.training.datalist import datalist


def test_a_result_is_a_bundle(small_recipe, tmp_path, cubes):
    recipe = tmp_path / "recipe"
    shutil.copytree(small_recipe, recipe)
    path = recipe / "configs" / "inference.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["uncertainty"] = {"calibration": {"temperature": 2.0}, "ensemble": {"weights": ["models/x.safetensors"]}}
    path.write_text(json.dumps(config), encoding="utf-8")
    state = initial_state(small_recipe).state
    out = write_result(recipe, state, tmp_path / "out")
    assert read_config(out, "inference")["uncertainty"] == {}
    assert read_config(out, "inference")["domain"] == config["domain"]  # a server has no cases to measure
    weights = read_weights(out / "models" / "model.safetensors")
    assert all(torch.equal(weights[name], value.half()) for name, value in state.items())
    load_bundle(out)
    data = cubes(tmp_path / "data", range(3))
    cases = datalist(str(data), "train") + datalist(str(data), "val")
    zero = {name: torch.zeros_like(value) for name, value in state.items()}
    again = write_result(recipe, zero, out, cases)  # in its place
    assert load_bundle(again).domain.cases == 3
    assert not any(value.any() for value in read_weights(again / "models" / "model.safetensors").values())
