"""Two processes train what one does with their batches together; one alone writes, refuses and is followed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.handlers import StatsHandler
from torch import nn

from medseg.bundle.shipped import find_bundle
from medseg.errors import InputError
from medseg.training.ranks import Rank, RankHandlers, first_alone, gathered, joined, launched, local_device, writes

if TYPE_CHECKING:
    from pathlib import Path

BUNDLE = "hippocampus_mri_segmentation"
PER_SAMPLE = {
    "_target_": "DiceCELoss",
    "to_onehot_y": True,
    "softmax": True,
    "include_background": False,
    "batch": False,
}


def python(*words: str, folder: Path, processes: int = 1, code: int = 0) -> str:
    """`python WORDS`, or `torchrun WORDS`, in `folder`; returns what it printed."""
    launcher = (
        [] if processes == 1 else ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    )
    done = subprocess.run(
        [sys.executable, *launcher, *words],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == code, done.stderr[-4000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def cubes(tmp_path_factory) -> Path:
    """Eleven noisy cubes with labelled halves; the last three validate."""
    root = tmp_path_factory.mktemp("cubes")
    rng = np.random.default_rng(0)
    for n in range(11):
        label = np.zeros((16, 16, 16), np.uint8)
        label[4:12, 4:8, 4 : 10 + n % 3], label[4:12, 8:12, 4:12] = 1, 2
        image = (label > 0) * 50.0 + rng.normal(100, 5, label.shape)
        for part, array in (("imagesTr", image.astype(np.float32)), ("labelsTr", label)):
            (root / part).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), root / part / f"cube_{n:02}.nii.gz")
    return root


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    """The shipped recipe, small, in float32, with a loss that is a mean over samples and without dropout.

    Its augmentation stays: each sample's is drawn by the sample's number among those of all processes.
    """
    root = tmp_path_factory.mktemp("ranks") / "cubes_segmentation"
    shutil.copytree(find_bundle(BUNDLE), root, ignore=shutil.ignore_patterns("models"))
    for name in ("train", "inference"):
        path = root / "configs" / f"{name}.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config["network_def"] |= {"features": [4, 8, 8, 8], "dropout": 0.0}
        if name == "train":
            config |= {"patch_size": [16, 16, 16], "val_interval": 1, "epochs": 3, "batch_size": 4}
            config["validation"] = ["cube_08", "cube_09", "cube_10"]
            config["losses"] = {"dice_ce": PER_SAMPLE}
            config["train"]["inferer"] = {"_target_": "SimpleInferer"}
            config["validate"]["inferer"] = config["validate"]["inferer"]["inferer"]
        path.write_text(json.dumps(config), encoding="utf-8")
    return root


def trained(models: Path) -> dict[str, torch.Tensor]:
    """Every number of the last checkpoint's network and its moving average."""
    path = max(models.glob("resume_*.pt"))
    state = torch.load(path, weights_only=True)
    assert state["iteration"] == 6
    return {f"{part}.{key}": value for part in ("model", "ema") for key, value in state["parts"][part].items()}


def scores(said: str) -> list[float]:
    """The different mean Dice of the validations, in order, as MONAI told them in full."""
    return list(dict.fromkeys(float(hit) for hit in re.findall(r"val_mean_dice: (\d\.\d{6,})", said)))


def assert_same(one: Path, two: Path) -> None:
    a, b = trained(one), trained(two)
    assert a.keys() == b.keys()
    apart = {key: (a[key].float() - b[key].float()).abs().max().item() for key in a}
    assert max(apart.values()) < 1e-5, apart


@pytest.mark.slow
def test_two_processes_are_one_with_their_batches_together(cubes, recipe, tmp_path):
    """4 at a time in one process, 2 in each of two: the same weights within 1e-5, the same scores, one that writes."""
    named = {1: ["train"], 2: ["train", "multi_gpu_train"]}
    said = {}
    for count, configs in named.items():
        paths = [str(recipe / "configs" / f"{name}.json") for name in configs]
        said[count] = python(
            *["-m", "monai.bundle", "run", "--bundle_root", str(recipe), "--dataset_dir", str(cubes)],
            *["--output_dir", str(tmp_path / str(count)), "--batch_size", str(4 // count)],
            *["--config_file", str(paths) if count > 1 else paths[0]],
            folder=tmp_path,
            processes=count,
        )
    assert_same(tmp_path / "1", tmp_path / "2")
    assert len(scores(said[1])) == 3
    assert scores(said[2]) == pytest.approx(scores(said[1]), abs=1e-4)
    assert [text.count("saved final weights") for text in said.values()] == [1, 1]


@pytest.mark.slow
def test_medseg_train_in_two_processes_is_one(cubes, recipe, tmp_path):
    """The same through `medseg train`, which copies the recipe, measures the cases and writes the weights once."""
    said = {}
    for count in (1, 2):
        small = tmp_path / f"batches_of_{4 // count}"
        shutil.copytree(recipe, small)
        path = small / "configs" / "train.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(config | {"batch_size": 4 // count}), encoding="utf-8")
        words = ["-m", "medseg", "train", str(small), str(cubes), "-o", str(tmp_path / str(count))]
        said[count] = python(*words, folder=tmp_path, processes=count)
    assert said[2].count("trained: use it with") == 1
    one, two = tmp_path / "1", tmp_path / "2"
    assert_same(one / "models", two / "models")
    for name in ("inference.json", "metadata.json"):
        assert (one / "configs" / name).read_text("utf-8") == (two / "configs" / name).read_text("utf-8")
    refused = python(*words, folder=tmp_path, processes=2, code=1)
    assert refused.count("MS-T105") == 1


def test_without_torchrun_there_is_one_process(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    assert launched() == (0, 1)
    with joined() as found:
        assert found == (0, 1)
        assert first_alone(lambda: 3) == 3
        assert gathered("mine") == ["mine"]
    rank = Rank()
    assert (rank.index, rank.count, rank.device) == (0, 1, local_device())


@pytest.mark.parametrize("rank", ["-1", "2", "x", ""])
def test_an_environment_that_makes_no_sense_is_one_process(monkeypatch, rank):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    assert launched() == (0, 1)


def test_a_queue_that_counts_is_no_torchrun(monkeypatch):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert launched() == (0, 1)
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    assert launched() == (1, 2)


class Quiet(StatsHandler):
    """Of a kind that prints."""


class Diary:
    """Of a kind that nobody knows."""

    first_rank_only = True


def test_handlers_that_write_are_for_the_first(monkeypatch):
    handlers = [StatsHandler(), Quiet(), Diary(), nn.Identity()]
    assert [writes(one) for one in handlers] == [True, True, True, False]
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    for rank, kept in ((0, 4), (1, 1)):
        monkeypatch.setenv("RANK", str(rank))
        assert RankHandlers(handlers) == handlers[-kept:]


ALONE = """
from pathlib import Path
from medseg.errors import InputError
from medseg.training.ranks import first_alone, gathered, joined

def write():
    with open("written.txt", "a") as file:
        file.write("once ")
    return "what rank 0 found"

def refuse():
    raise InputError("MS-T103", "no such folder", mend="give another")

with joined() as (rank, count):
    found = first_alone(write)
    everyone = gathered((rank, found))
    Path(f"{rank}.txt").write_text(repr(everyone))
    try:
        first_alone(refuse)
    except BaseException as error:
        Path(f"{rank}.end").write_text(f"{type(error).__name__} {error}")
"""


@pytest.mark.slow
def test_one_acts_alone_and_all_know_what_came_of_it(tmp_path):
    (tmp_path / "alone.py").write_text(ALONE, encoding="utf-8")
    python("alone.py", folder=tmp_path, processes=2)
    assert (tmp_path / "written.txt").read_text(encoding="utf-8") == "once "
    for rank in range(2):
        everyone = [(0, "what rank 0 found"), (1, "what rank 0 found")]
        assert (tmp_path / f"{rank}.txt").read_text(encoding="utf-8") == repr(everyone)
    assert (tmp_path / "0.end").read_text(encoding="utf-8").startswith("InputError MS-T103")
    assert (tmp_path / "1.end").read_text(encoding="utf-8") == f"SystemExit {InputError.exit_code}"
