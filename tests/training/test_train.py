"""`medseg train` end to end on a few small scans: the run is a bundle, can be resumed, and can start from another."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import torch

from medseg.bundle.load import load_bundle
from medseg.bundle.weights import read_weights
from medseg.errors import InputError, OutputError, UsageError
from medseg.training.train import latest_checkpoint, train_bundle

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
    import shutil

    from medseg.bundle.shipped import find_bundle

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


def test_a_run_is_a_bundle_that_can_be_resumed_and_started_from(folder, small_recipe, tmp_path):
    run = train_bundle(small_recipe, folder, tmp_path / "run", epochs=5)
    first = read_weights(run / "models" / "model.safetensors")
    assert all(value.dtype == torch.float16 for value in first.values())
    assert first.keys() == read_weights(run / "models" / "model.pt").keys()
    load_bundle(run)
    state = torch.load(latest_checkpoint(run), weights_only=True)
    assert state["schedule"]["epoch"] == 5
    steps = state["optimizer"]["state"][0]["step"]
    assert 5 <= steps <= 10  # 4 training cases in batches of 2; a step without finite gradient is skipped

    train_bundle(small_recipe, folder, run, epochs=10, resume=True)
    again = torch.load(latest_checkpoint(run), weights_only=True)
    assert again["schedule"]["epoch"] == 10
    assert steps + 5 <= again["optimizer"]["state"][0]["step"] <= steps + 10

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


def test_a_scan_that_is_refused_while_training_is_named(folder, small_recipe, tmp_path):
    import shutil

    shutil.copytree(folder, tmp_path / "data")
    (tmp_path / "data" / "imagesTr" / "cube_1.nii.gz").write_bytes(b"not an image at all")
    with pytest.raises(InputError, match=r"MS-F\d+ .*cube_1"):
        train_bundle(small_recipe, tmp_path / "data", tmp_path / "run", epochs=1)
