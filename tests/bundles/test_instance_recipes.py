"""The shipped recipes for instances: they keep their promises, and run from phantoms to scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medseg.bundle import check_bundle, shipped_bundles
from medseg.bundle.domain import Domain, check_domain
from medseg.readers.open import read
from medseg.training.train import train_bundle
from medseg.volume import Source, Volume
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


def refused(name, volumes):
    domain = Domain.from_json(json.loads((RECIPES[name] / "configs" / "inference.json").read_text("utf-8"))["domain"])
    return [bool(check_domain(volume, domain)) for volume in volumes]


def phantoms(preset, seeds, size=48):
    from phantoms.presets import make

    made = [make(preset, seed, size) for seed in seeds]
    return [Volume(one.image, np.diag([*one.spacing_mm, 1.0]), Source(format="array")) for one in made]


def test_phantoms_of_every_kind_are_in_the_domain(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from phantoms.dataset import case_seed
    from phantoms.presets import PRESETS

    for preset in PRESETS:
        unseen = phantoms(preset, [case_seed(7, "Ts", n) for n in range(2)])
        assert not any(refused("phantom_instance_segmentation", unseen)), preset


REAL = {
    "hippocampus": "imagesTr/hippocampus_0*.nii.gz",
    "totalseg": "example_ct*.nii.gz",
    "spinal_cord": "t*.nii.gz",
    "open_ms": "mni/patient*/*.nii.gz",
}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("folder", REAL)
def test_other_scans_are_refused(data, name, folder):
    scans = [read(path) for path in sorted(data(folder).glob(REAL[folder]))]
    assert len(scans) >= 2
    assert all(refused(name, scans))


def test_unseen_lumbar_spines_are_in_the_domain_and_no_phantoms(data):
    folder = data("vertebrae_mri")
    split = json.loads((folder / "splits_dev.json").read_text(encoding="utf-8"))
    unseen = [read(folder / "iso2mm" / "images" / f"{name}.nii.gz") for name in split["val"]]
    assert len(unseen) == 7
    assert not any(refused("vertebrae_mri_instance_segmentation", unseen))
    assert all(refused("phantom_instance_segmentation", unseen))


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
