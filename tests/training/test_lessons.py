"""Teachers, unlabelled cases and frozen parts in real runs of `medseg train` on small cubes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
import torch

from medseg.bundle.load import load_bundle
from medseg.bundle.shipped import find_bundle
from medseg.bundle.weights import read_weights
from medseg.errors import BundleError, UsageError
from medseg.training.lessons import Lessons, taught
from medseg.training.train import train_bundle
from medseg.workflows.predict import predict

if TYPE_CHECKING:
    from pathlib import Path

BUNDLE = "hippocampus_mri_segmentation"
VALIDATION = ("cube_00", "cube_01", "cube_02")


def write_cubes(root: Path, count: int, *, seed: int = 0, labels: bool = True, wrong: bool = False) -> Path:
    """Noisy cubes with labelled halves at drawn places; `wrong`: the labels say that there is nothing."""
    rng = np.random.default_rng(seed)
    for n in range(count):
        label = np.zeros((16, 16, 16), np.uint8)
        i, j, k = rng.integers(2, 6, 3)
        label[i : i + 8, j : j + 4, k : k + 8], label[i : i + 8, j + 4 : j + 8, k : k + 8] = 1, 2
        image = label * 30.0 + rng.normal(100, 5, label.shape)
        told = label * (not wrong or n < len(VALIDATION))
        for part, array in (("imagesTr", image.astype(np.float32)), ("labelsTr", told)):
            if labels or part == "imagesTr":
                (root / part).mkdir(parents=True, exist_ok=True)
                nib.save(nib.Nifti1Image(array, np.eye(4)), root / part / f"cube_{n:02}.nii.gz")
    return root


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    """The shipped recipe with a small network and patch."""
    root = tmp_path_factory.mktemp("lessons") / "cubes_segmentation"
    shutil.copytree(find_bundle(BUNDLE), root, ignore=shutil.ignore_patterns("models"))
    for name in ("train", "inference"):
        path = root / "configs" / f"{name}.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config["network_def"] |= {"features": [8, 16, 16, 16], "dropout": 0.1}
        if name == "train":
            config |= {"patch_size": [16, 16, 16], "val_interval": 100, "validation": list(VALIDATION)}
            config["learning_rate"] = 0.01
        path.write_text(json.dumps(config), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def cubes(tmp_path_factory) -> Path:
    return write_cubes(tmp_path_factory.mktemp("cubes"), 11)


@pytest.fixture(scope="module")
def teacher(recipe, cubes, tmp_path_factory) -> Path:
    """A run that has learnt what a cube is."""
    return train_bundle(recipe, cubes, tmp_path_factory.mktemp("teacher") / "run", epochs=40)


def dice(run: Path, cubes: Path, out: Path) -> float:
    """Mean Dice of the held-out cubes, as `medseg predict` segments them."""
    scans = out / "scans"
    scans.mkdir(parents=True)
    for name in VALIDATION:
        shutil.copy(cubes / "imagesTr" / f"{name}.nii.gz", scans)
    predict(scans, run, out / "out", device="cpu", views=False, outside_domain=True)
    found = []
    for name in VALIDATION:
        pred, ref = (
            np.asarray(nib.load(path).dataobj)
            for path in (out / "out" / name / "segmentation.nii.gz", cubes / "labelsTr" / f"{name}.nii.gz")
        )
        found += [2 * ((pred == v) & (ref == v)).sum() / ((pred == v).sum() + (ref == v).sum()) for v in (1, 2)]
    return float(np.mean(found))


@pytest.mark.slow
def test_unlabelled_cases_teach_beside_a_teacher_and_the_run_can_be_gone_on_with(recipe, teacher, cubes, tmp_path):
    unlabelled = write_cubes(tmp_path / "more", 4, seed=2, labels=False)
    predict(unlabelled / "imagesTr", teacher, tmp_path / "out", device="cpu", uncertainty="mc:3", outside_domain=True)
    for path in (tmp_path / "out").glob("*/record.json"):  # the cubes' domain is that of eight of them
        record = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(record | {"outside_domain": []}), encoding="utf-8")
    lessons = Lessons((str(teacher),), pseudo=tmp_path / "out")
    run = train_bundle(recipe, cubes, tmp_path / "run", epochs=2, lessons=lessons, init=teacher)
    config = json.loads((run / "configs" / "train.json").read_text("utf-8"))
    assert config["base_loss"]["loss"]["_target_"] == "medseg.training.CertaintyLoss"
    assert config["train"]["dataset"]["data"]["_target_"] == "medseg.training.WithPseudoLabels"
    load_bundle(run)
    before = read_weights(run / "models" / "model.safetensors")
    train_bundle(recipe, cubes, run, epochs=4, resume=True)
    after = read_weights(run / "models" / "model.safetensors")
    assert any(not torch.equal(before[key], after[key]) for key in before)


@pytest.mark.slow
def test_a_frozen_encoder_stays_and_a_thawed_one_moves(recipe, teacher, cubes, tmp_path):
    known = read_weights(teacher / "models" / "model.safetensors")

    def moved(run: Path) -> dict[bool, float]:
        """Largest change of a weight: inside the encoder (True) and elsewhere."""
        now = read_weights(run / "models" / "model.safetensors")
        apart = {True: 0.0, False: 0.0}
        for name, value in known.items():
            inside = name.startswith("encoder.")
            apart[inside] = max(apart[inside], (now[name].float() - value.float()).abs().max().item())
        return apart

    run = train_bundle(recipe, cubes, tmp_path / "frozen", epochs=2, init=teacher, freeze=["encoder"])
    assert moved(run)[True] == 0
    assert moved(run)[False] > 0
    told = json.loads((run / "init.json").read_text(encoding="utf-8"))
    assert set(told["fits"]) == set(known)
    assert told["missing"] == told["extra"] == []
    train_bundle(recipe, cubes, run, epochs=4, resume=True)
    assert moved(run)[True] == 0, "a run that is gone on with stays frozen"
    run = train_bundle(recipe, cubes, tmp_path / "thawed", epochs=4, init=teacher, freeze=["encoder"], thaw=0.5)
    assert moved(run)[True] > 0


def test_what_cannot_be_done_is_refused_before_anything_is_written(recipe, cubes, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(UsageError, match=r"MS-T172[\s\S]*--init"):
        train_bundle(recipe, cubes, run, freeze=["encoder"])
    with pytest.raises(BundleError, match="MS-B110"):
        train_bundle(recipe, cubes, run, lessons=Lessons((str(recipe),)))
    with pytest.raises(BundleError, match="MS-B110"):
        train_bundle(recipe, cubes, run, init=recipe)
    assert not run.exists()


@pytest.mark.parametrize(
    ("wrong", "option"),
    [
        ({"temperature": 0.0}, "--temperature"),
        ({"teacher_weight": 1.5}, "--teacher-weight"),
        ({"pseudo_weight": -1}, "--ps"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(wrong, option):
    with pytest.raises(UsageError, match=f"MS-T176 {option}"):
        replace(Lessons(), **wrong)


def test_a_recipe_that_cannot_be_taught_is_refused(recipe):
    assert taught({}, recipe, Lessons()) == {}
    with pytest.raises(UsageError, match="MS-T175"):
        taught({"train": {}}, recipe, Lessons((BUNDLE,)))
    with pytest.raises(UsageError, match="MS-T175"):
        taught({"loss": {}, "train": {"trainer": {"prepare_batch": {}}}}, recipe, Lessons((BUNDLE,)))


def test_a_recipe_with_a_locator_keeps_its_overviews(recipe):
    config = json.loads((recipe / "configs" / "train.json").read_text(encoding="utf-8"))
    trainer = config["train"]["trainer"]
    trainer["prepare_batch"] = {"_target_": "medseg.training.LocatedBatch"}
    prepare = taught(config, recipe, Lessons(teachers=(BUNDLE,)))["train#trainer#prepare_batch"]
    assert prepare["_target_"] == "medseg.training.LocatedBatch"
    assert prepare["prepare"]["_target_"] == "medseg.training.Targets"
    trainer["prepare_batch"] = {"_target_": "medseg.training.prepare_instances"}
    with pytest.raises(UsageError, match="MS-T175"):
        taught(config, recipe, Lessons(teachers=(BUNDLE,)))
