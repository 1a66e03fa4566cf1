"""A run that was killed by SIGKILL five times ends with the very weights of one that was not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medseg.bundle.shipped import find_bundle
from medseg.bundle.weights import read_weights
from medseg.training.checkpoint_file import latest_sound

KILLS = 5


@pytest.fixture
def data(tmp_path) -> Path:
    """Ten noisy cubes with labelled halves."""
    rng = np.random.default_rng(0)
    for n in range(10):
        label = np.zeros((16, 16, 16), np.uint8)
        label[4:12, 4:8, 4:12], label[4:12, 8:12, 4:12] = 1, 2
        image = (label > 0) * 50.0 + rng.normal(100, 5, label.shape)
        for part, array in (("imagesTr", image.astype(np.float32)), ("labelsTr", label)):
            (tmp_path / "data" / part).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "data" / part / f"cube_{n}.nii.gz")
    return tmp_path / "data"


@pytest.fixture
def recipe(tmp_path) -> Path:
    """The shipped recipe with a tiny network that drops channels, and a checkpoint as often as the steps allow."""
    root = tmp_path / "cubes_segmentation"
    shutil.copytree(find_bundle("hippocampus_mri_segmentation"), root, ignore=shutil.ignore_patterns("models"))
    for name in ("train", "inference"):
        path = root / "configs" / f"{name}.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        # Small, and with dropout: its generator must go on too.
        config["network_def"] |= {"features": [4, 8, 8], "dropout": 0.3, "deep_supervision": 1}
        if name == "train":
            config |= {"patch_size": [16, 16, 16], "val_interval": 2, "validation": ["cube_0", "cube_1"]}
            saver = next(one for one in config["train"]["handlers"] if one["_target_"].endswith(".Checkpoints"))
            saver |= {"seconds": 0.0, "share": 0.5}
        path.write_text(json.dumps(config), encoding="utf-8")
    return root


def flat(value, name="") -> dict[str, object]:
    """Every tensor and number of a checkpoint by its place."""
    if isinstance(value, dict):
        return {key: one for k, v in value.items() for key, one in flat(v, f"{name}/{k}").items()}
    if isinstance(value, list | tuple):
        return {key: one for k, v in enumerate(value) for key, one in flat(v, f"{name}/{k}").items()}
    return {name: value}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["medseg", "monai"])
def test_killed_five_times_it_ends_with_the_same_weights(how, recipe, data, tmp_path):
    out = tmp_path / "runs"
    out.mkdir()
    command = [sys.executable, str(Path(__file__).parent / "kill_runs.py"), str(recipe), str(data), str(out)]
    done = subprocess.run(
        [*command, str(KILLS), how, "7"], env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=3000, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["steps"] == 24
    assert len(told["killed"]) == KILLS
    assert sum(bool(one["left"]) for one in told["killed"]) >= 2  # else nothing was gone on with
    assert told["rest"] < told["steps"]
    whole, killed = (read_weights(out / name / "models" / "model.pt") for name in ("whole", "killed"))
    assert whole.keys() == killed.keys()
    assert all(torch.equal(whole[key], killed[key]) for key in whole)
    first, second = (flat(latest_sound(out / name / "models")[1]) for name in ("whole", "killed"))
    assert first.keys() == second.keys()
    for key, value in first.items():
        same = torch.equal(value, second[key]) if isinstance(value, torch.Tensor) else value == second[key]
        assert same or key.endswith(("/spent_s", "/minutes")), key  # of the clock
