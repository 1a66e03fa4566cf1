"""`medseg train` end to end on a few small scans: the run is a bundle, can be resumed, and can start from another."""

from __future__ import annotations

import csv
import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch

from medseg.bundle.config import read_config
from medseg.bundle.load import load_bundle
from medseg.bundle.shipped import find_bundle
from medseg.bundle.weights import read_weights
from medseg.errors import InputError, OutputError, UsageError
from medseg.training import train
from medseg.training.checkpoint_file import latest_sound, write_checkpoint
from medseg.training.plan.problems import DatasetError
from medseg.training.train import train_bundle

BUNDLE = "hippocampus_mri_segmentation"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five noisy cubes with labelled halves."""
    root = tmp_path_factory.mktemp("cubes")
    rng = np.random.default_rng(0)
    for n in range(5):
        label = np.zeros((16, 16, 16), np.uint8)
        label[4:12, 4:8, 4:12], label[4:12, 8:12, 4:12] = 1, 2
        image = (label > 0) * 50.0 + rng.normal(100, 5, label.shape)
        for sub, array in (("imagesTr", image.astype(np.float32)), ("labelsTr", label)):
            (root / sub).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), root / sub / f"cube_{n}.nii.gz")
    return root


@pytest.fixture(scope="module")
def small_recipe(tmp_path_factory):
    """The shipped recipe with a smaller network and patch, the same in both configs."""
    root = tmp_path_factory.mktemp("recipe") / "cubes_segmentation"
    shutil.copytree(find_bundle(BUNDLE), root, ignore=shutil.ignore_patterns("models"))
    for name in ("train", "inference"):
        path = root / "configs" / f"{name}.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config["network_def"]["features"] = [4, 8, 8, 8]
        if name == "train":
            config["patch_size"] = [16, 16, 16]
            config["val_interval"] = 1
        path.write_text(json.dumps(config), encoding="utf-8")
    return root


@pytest.mark.parametrize("held", [True, False])
def test_an_interrupt_takes_away_only_what_the_run_began(small_recipe, folder, tmp_path, monkeypatch, held):
    out = tmp_path / "run"
    if held:
        out.mkdir()
        (out / "thesis.txt").write_text("of years", encoding="utf-8")

    copy_recipe = train.copy_recipe

    def interrupted(recipe, target):
        if not held:
            copy_recipe(recipe, target)
        raise KeyboardInterrupt  # while it looks whether the folder is empty, or after the first files

    monkeypatch.setattr(train, "copy_recipe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_bundle(small_recipe, folder, out, epochs=1)
    assert out.exists() == held
    assert not held or (out / "thesis.txt").read_text(encoding="utf-8") == "of years"


def test_a_run_is_a_bundle_that_can_be_resumed_and_started_from(folder, small_recipe, tmp_path):
    run = train_bundle(small_recipe, folder, tmp_path / "run", epochs=5)
    first = read_weights(run / "models" / "model.safetensors")
    assert all(value.dtype == torch.float16 for value in first.values())
    assert first.keys() == read_weights(run / "models" / "model.pt").keys()
    load_bundle(run)
    state = latest_sound(run / "models")[1]
    assert state["iteration"] == 10
    steps = state["parts"]["optimizer"]["state"][0]["step"]
    assert 5 <= steps <= 10  # 4 training cases in batches of 2; a step without finite gradient is skipped

    train_bundle(small_recipe, folder, run, epochs=10, resume=True)
    again = latest_sound(run / "models")[1]
    assert again["iteration"] == 20
    assert steps + 5 <= again["parts"]["optimizer"]["state"][0]["step"] <= steps + 10
    assert read_config(run, "train")["epochs"] == 10  # as the run went, for MONAI's own command
    with (run / "training" / "history.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["epoch"]) for row in rows] == list(range(1, 11))
    assert all(0 <= float(row[name]) <= 1 for row in rows for name in ("Anterior hippocampus", "Posterior hippocampus"))

    started = train_bundle(small_recipe, folder, tmp_path / "tuned", minutes=0.001, loss="tversky", init=run)
    before, after = (read_weights(r / "models" / "model.safetensors") for r in (run, started))
    moved = [(before[k].float() - after[k].float()).abs().max() for k in before]
    assert 0 <= max(moved) < 0.05  # one step of warm-up away from where it started


def test_wrong_calls_are_refused_before_anything_is_written(folder, small_recipe, tmp_path):
    with pytest.raises(InputError, match="MS-T103"):
        train_bundle(small_recipe, tmp_path / "absent", tmp_path / "run")
    with pytest.raises(InputError, match="MS-T104"):
        train_bundle(small_recipe, folder, tmp_path / "run", resume=True)
    with pytest.raises(UsageError, match=r"MS-T106[\s\S]*dice_ce, tversky"):
        train_bundle(small_recipe, folder, tmp_path / "run", loss="focal")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.docx").touch()
    with pytest.raises(OutputError, match="MS-T105"):
        train_bundle(small_recipe, folder, tmp_path / "full")
    assert not (tmp_path / "run").exists()


def test_data_without_labelled_cases_is_refused_before_anything_is_written(small_recipe, tmp_path):
    (tmp_path / "scans").mkdir()
    with pytest.raises(InputError, match="MS-T101"):
        train_bundle(small_recipe, tmp_path / "scans", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_scan_that_is_refused_is_named_before_anything_is_trained(folder, small_recipe, tmp_path):
    shutil.copytree(folder, tmp_path / "data")
    (tmp_path / "data" / "imagesTr" / "cube_1.nii.gz").write_bytes(b"not an image at all")
    with pytest.raises(DatasetError, match="MS-T140") as refused:
        train_bundle(small_recipe, tmp_path / "data", tmp_path / "run", epochs=1)
    (problem,) = refused.value.problems
    assert problem.code.startswith("MS-F")
    assert problem.file.endswith("cube_1.nii.gz")
    assert not (tmp_path / "run").exists()


def test_a_run_without_the_handler_that_can_go_on_is_not_gone_on_with(folder, small_recipe, tmp_path):
    root = tmp_path / "other"
    shutil.copytree(small_recipe, root)
    path = root / "configs" / "train.json"
    path.write_text(path.read_text(encoding="utf-8").replace("medseg.training.Checkpoints", "medseg.Other"))
    write_checkpoint(root / "models", {}, 3)
    with pytest.raises(UsageError, match=r"MS-T164 [\s\S]*medseg.training.Checkpoints"):
        train_bundle(small_recipe, folder, root, resume=True)


def test_one_image_on_both_sides_is_refused_and_no_run_is_left(folder, small_recipe, tmp_path):
    shutil.copytree(folder, tmp_path / "data")
    for part in ("imagesTr", "labelsTr"):
        shutil.copyfile(tmp_path / "data" / part / "cube_1.nii.gz", tmp_path / "data" / part / "again.nii.gz")
    with pytest.raises(DatasetError, match="MS-T140") as refused:
        train_bundle(small_recipe, tmp_path / "data", tmp_path / "run", epochs=1, validation=["again"])
    assert [(one.code, one.case) for one in refused.value.problems] == [("MS-T145", "again")]
    assert not (tmp_path / "run").exists()


def test_hardware_changes_nothing_that_is_learnt(folder, small_recipe, tmp_path):
    recipe = tmp_path / "three_levels"  # see test_resume.py
    shutil.copytree(small_recipe, recipe)
    for name in ("train", "inference"):
        path = recipe / "configs" / f"{name}.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config["network_def"] |= {"features": [4, 8, 8], "deep_supervision": 1}
        path.write_text(json.dumps(config), encoding="utf-8")
    mine = tmp_path / "desk.yaml"
    mine.write_text("num_workers: 1\ncache_gb: 0\nrecompute: true\n", encoding="utf-8")
    runs = [
        train_bundle(recipe, folder, tmp_path / str(hardware is None), epochs=2, hardware=hardware)
        for hardware in (None, str(mine))
    ]
    first, second = (read_weights(run / "models" / "model.safetensors") for run in runs)
    assert all(torch.equal(first[key], second[key]) for key in first)
    with pytest.raises(UsageError, match="MS-T167"):
        train_bundle(recipe, folder, tmp_path / "none", hardware="abacus")
    assert not (tmp_path / "none").exists()


def test_mlflow_hears_of_a_run_and_of_its_going_on_and_no_config_keeps_the_place(folder, small_recipe, tmp_path):
    from medseg.training.mlflow_run import open_store

    place = str(tmp_path / "store")
    run = train_bundle(small_recipe, folder, tmp_path / "run", epochs=1, mlflow=place)
    train_bundle(small_recipe, folder, run, epochs=2, mlflow=place, resume=True)
    assert not any(place in path.read_text(encoding="utf-8") for path in (run / "configs").glob("*.json"))
    client = open_store(place)
    (found,) = client.search_runs([client.get_experiment_by_name("medseg").experiment_id])
    assert (found.info.status, found.info.run_name) == ("FINISHED", "run")
    with (run / "training" / "history.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for name in ("loss", "validation/val_mean_dice", "validation/Anterior hippocampus"):
        told = client.get_metric_history(found.info.run_id, name)
        assert [one.value for one in told] == pytest.approx([float(row[name.split("/")[-1]]) for row in rows], abs=1e-6)
    names = {one.path for one in client.list_artifacts(found.info.run_id, "training")}
    assert names == {"training/curves.html", "training/curves.png", "training/history.csv"}


def test_what_mlflow_cannot_be_told_is_refused_before_anything_is_written(folder, small_recipe, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="MS-T178"):
        train_bundle(small_recipe, folder, tmp_path / "run", epochs=1, mlflow=str(tmp_path / "file"))
    assert not (tmp_path / "run").exists()
