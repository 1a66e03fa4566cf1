"""`medseg train` stopped, with a worker that is killed, with a checkpoint that is damaged: it ends with the very same weights."""

from __future__ import annotations

import json
import os
import random
import shutil
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
import torch

from medseg.bundle.shipped import find_bundle
from medseg.bundle.weights import read_weights
from medseg.training.checkpoint_file import checkpoints, latest_sound, write_checkpoint
from medseg.training.train import train_bundle
from tests.faults.commands import Command

if TYPE_CHECKING:
    from pathlib import Path

EPOCHS = 12


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Folders: data, recipe, and whole, a run that nobody disturbed; a file with the hardware."""
    root = tmp_path_factory.mktemp("training")
    rng = np.random.default_rng(0)
    for n in range(6):
        label = np.zeros((16, 16, 16), np.uint8)
        label[4:12, 4:8, 4:12], label[4:12, 8:12, 4:12] = 1, 2
        image = (label > 0) * 50.0 + rng.normal(100, 5, label.shape)
        for part, array in (("imagesTr", image.astype(np.float32)), ("labelsTr", label)):
            (root / "data" / part).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), root / "data" / part / f"cube_{n}.nii.gz")  # type: ignore[attr-defined]
    shutil.copytree(
        find_bundle("hippocampus_mri_segmentation"), root / "recipe", ignore=shutil.ignore_patterns("models")
    )
    for name in ("train", "inference"):
        path = root / "recipe" / "configs" / f"{name}.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config["network_def"] |= {"features": [4, 8, 8], "dropout": 0.3, "deep_supervision": 1}
        if name == "train":
            config |= {"patch_size": [16, 16, 16], "val_interval": 2, "validation": ["cube_0", "cube_1"]}
            saver = next(one for one in config["train"]["handlers"] if one["_target_"].endswith(".Checkpoints"))
            saver |= {"seconds": 0.0, "share": 0.5}
        path.write_text(json.dumps(config), encoding="utf-8")
    (root / "desk.yaml").write_text("num_workers: 1\n", encoding="utf-8")
    going_on(root, root / "whole", resume=False)
    return root


def going_on(place: Path, out: Path, *, resume: bool = True) -> None:
    train_bundle(place / "recipe", place / "data", out, epochs=EPOCHS, hardware=str(place / "desk.yaml"), resume=resume)


def begun(place: Path, out: Path, *more: str) -> Command:
    words = [place / "recipe", place / "data", "-o", out, "--epochs", EPOCHS, "--hardware", place / "desk.yaml"]
    return Command("train", *words, *more)


def same_weights(place: Path, out: Path) -> bool:
    ours, theirs = (read_weights(of / "models" / "model.pt") for of in (out, place / "whole"))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


pytestmark = pytest.mark.skipif(os.name != "posix", reason="machine: signals and process groups as POSIX has them")


@pytest.mark.slow
def test_stopped_by_sigterm_and_then_by_ctrl_c(place, tmp_path, count):
    out = tmp_path / "run"
    command = begun(place, out)
    command.until("epoch 2/")
    command.terminate(all_of_it=True)  # its worker hears it too
    assert command.end() == 143, command.said
    assert "Traceback" not in command.said
    assert "--resume" in command.said
    first = latest_sound(out / "models")[1]["iteration"]
    assert first >= 4
    assert not (out / "models" / "model.pt").exists()

    command = begun(place, out, "--resume")
    command.until("epoch 6/")
    command.ctrl_c()
    assert command.end() == 130, command.said
    assert f"going on from step {first} " in command.said
    assert latest_sound(out / "models")[1]["iteration"] > first

    only_ours(command.said)
    log = (out / "training" / "log.txt").read_text("utf-8")
    assert "ignite" in log
    assert log.count("medseg.training.checkpoints: going on from step") == 1

    going_on(place, out)
    assert same_weights(place, out)
    count(
        "SIGTERM and Ctrl-C of the command train", 2, 2, "a sound checkpoint each, --resume ends with the same weights"
    )


def only_ours(said: str) -> None:
    """No line of a library: a training says its epochs and what medseg logs."""
    foreign = ("Engine run", "nvImageCodec", "ignite", "Warning", "terminating due to exception")
    assert [line for line in said.splitlines() if any(word in line for word in foreign)] == []


@pytest.mark.slow
def test_stopped_before_the_first_checkpoint_nothing_is_in_the_way(place, tmp_path):
    out = tmp_path / "run"
    command = begun(place, out)
    while not (out / "configs").exists() and command.process.poll() is None:
        pass
    command.terminate()
    assert command.end() == 143, command.said
    assert out.exists() == bool(checkpoints(out / "models"))
    assert ("--resume" in command.said) == out.exists()


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_run_and_resume_goes_on(place, tmp_path, count):
    out = tmp_path / "run"
    command = begun(place, out)
    command.until("epoch 2/")
    killed = command.kill_children()
    assert killed
    assert command.end() not in (0, 130, 143), command.said
    assert "MS-T161" in command.said
    assert "--resume" in command.said
    only_ours(command.said)
    left = latest_sound(out / "models")[1]["iteration"]
    assert left >= 4
    going_on(place, out)
    assert same_weights(place, out)
    count(
        "a killed worker of the command train",
        1,
        1,
        "named by its code, nothing hangs, --resume ends with the same weights",
    )


@pytest.mark.slow
def test_a_damaged_last_checkpoint_is_named_and_the_one_before_is_used(place, tmp_path, count):
    out = tmp_path / "run"
    shutil.copytree(place / "whole", out)
    for path in (out / "models").glob("model.*"):
        path.unlink()
    last, before = checkpoints(out / "models")[:2]
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 4
    last.write_bytes(content)
    command = begun(place, out, "--resume")
    assert command.end() == 0, command.said
    assert "MS-T162" in command.said
    assert last.name in command.said
    assert before.name in command.said
    assert same_weights(place, out)
    count("a damaged checkpoint of the command train", 1, 1, "named, the one before used, the same weights")


def test_20_cuts_and_50_flipped_bits_of_checkpoints(tmp_path, count, caplog):
    chance = random.Random(3)
    state = {"weights": torch.arange(5000.0), "iteration": 1}
    sound = write_checkpoint(tmp_path, state, 1)
    last = write_checkpoint(tmp_path, {**state, "iteration": 2}, 2)
    content = last.read_bytes()
    damaged = [content[: len(content) * n // 20] for n in range(20)]
    for _ in range(50):
        bits = bytearray(content)
        bit = chance.randrange(8 * len(content))
        bits[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(bits))
    for one in damaged:
        last.write_bytes(one)
        caplog.clear()
        path, found = latest_sound(tmp_path)
        assert (path, found["iteration"]) == (sound, 1)
        assert "MS-T162" in caplog.text
        assert last.name in caplog.text
    last.write_bytes(content)
    assert latest_sound(tmp_path)[0] == last
    count("damaged checkpoints", len(damaged), 70, "named, the sound one before used")
