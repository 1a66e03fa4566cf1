"""The shipped recipes for instances: they keep their promises, and run from phantoms to scores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medseg.bundle import check_bundle, shipped_bundles
from medseg.training.train import train_bundle
from medseg.workflows.evaluate import evaluate
from medseg.workflows.predict import predict

SCRIPTS = Path(__file__).parents[2] / "scripts"
RECIPES = {name: root for name, root in shipped_bundles().items() if "instance" in name}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_keeps_its_promises(name):
    assert [str(problem) for problem in check_bundle(RECIPES[name]) if not problem.warning] == []


@pytest.mark.parametrize("name", RECIPES)
def test_what_differs_between_training_and_inference_is_the_labels(name):
    train, inference = (
        json.loads((RECIPES[name] / "configs" / f"{part}.json").read_text(encoding="utf-8"))
        for part in ("train", "inference")
    )
    for key in ("network_def", "labels", "channels"):
        assert train[key] == inference[key]


@pytest.mark.slow
def test_from_phantoms_to_scores(tmp_path, monkeypatch):
    """A few steps learn nothing; but every part hands on to the next: train, validate, resume, predict, evaluate."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from phantoms.dataset import write_dataset

    data = tmp_path / "data"
    write_dataset(data, "shapes", train=5, test=1, size=32)
    recipe = tmp_path / "phantom_instance_segmentation"
    recipe.mkdir()
    for file in RECIPES["phantom_instance_segmentation"].rglob("*.*"):
        if file.is_file() and file.suffix != ".pt":
            copy = recipe / file.relative_to(RECIPES["phantom_instance_segmentation"])
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(file.read_bytes())
    train = recipe / "configs" / "train.json"
    config = json.loads(train.read_text(encoding="utf-8"))
    config |= {"patch_size": [32, 32, 32], "batch_size": 2, "val_interval": 1}
    config["network_def"] |= {"min_score": 0.6}  # what has learned nothing says something of everything
    train.write_text(json.dumps(config), encoding="utf-8")
    inference = recipe / "configs" / "inference.json"
    told = json.loads(inference.read_text(encoding="utf-8"))
    told["inferer"] |= {"min_score": 0.0}
    told["network_def"] |= {"min_score": 0.6}
    inference.write_text(json.dumps(told), encoding="utf-8")
    run = train_bundle(recipe, data, tmp_path / "run", epochs=1)
    out = tmp_path / "out"
    predict(data / "imagesTs", run, out, device="cpu")
    (found,) = out.rglob("instances.json")
    assert json.loads(found.read_text(encoding="utf-8"))["case"]
    result = evaluate(out, data / "labelsTs", protocol="instances")
    assert result
