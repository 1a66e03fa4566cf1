"""Options of `medseg train` as overrides of train.json."""

from __future__ import annotations

from pathlib import Path

import pytest

from medseg.bundle.config import read_config
from medseg.bundle.shipped import find_bundle
from medseg.errors import UsageError
from medseg.training.lessons import Lessons
from medseg.training.options import ENDLESS, Asked, overrides_of

CONFIG = {"losses": {"dice_ce": {}, "tversky": {}}, "epochs": 7}


def asked(**options) -> Asked:
    return Asked(Path("data"), Path("run"), **options)


def test_places_are_always_given_and_nothing_else_without_options():
    found = overrides_of(CONFIG, asked())
    assert found == {"dataset_dir": "data", "output_dir": str(Path("run", "models"))}


def test_minutes_leave_the_end_to_the_schedule():
    found = overrides_of(CONFIG, asked(minutes=3.5))
    assert (found["minutes"], found["epochs"]) == (3.5, ENDLESS)
    assert overrides_of(CONFIG, asked(epochs=4))["epochs"] == 4


def test_a_loss_is_taken_by_its_name_or_refused_with_the_names_there_are():
    assert overrides_of(CONFIG, asked(loss="tversky"))["base_loss"] == "@losses#tversky"
    with pytest.raises(UsageError, match=r"MS-T106[\s\S]*dice_ce, tversky"):
        overrides_of(CONFIG, asked(loss="focal"))
    with pytest.raises(UsageError, match=r"MS-T106[\s\S]*none"):
        overrides_of({}, asked(loss="focal"))


RECIPE = find_bundle("hippocampus_mri_segmentation")


def test_a_part_that_never_learns_is_frozen_before_the_optimizer_is_made():
    config = read_config(RECIPE, "train")
    found = overrides_of(config, asked(freeze=("encoder",)))
    assert found["frozen"]["network"] == "@network_def"
    assert found["network"] == config["network"].replace("@network_def", "@frozen")
    assert found["optimizer#params"] == {"_target_": "medseg.training.Unfrozen", "network": "@network"}
    assert "train#handlers" not in found


def test_a_part_that_thaws_has_a_handler_behind_the_others():
    config = read_config(RECIPE, "train")
    found = overrides_of(config, asked(freeze=("encoder", "stages.0"), thaw=0.25))
    *others, thaw = found["train#handlers"]
    assert others == config["train"]["handlers"]
    assert (thaw["parts"], thaw["share"]) == (["encoder", "stages.0"], 0.25)
    assert "frozen" not in found
    with pytest.raises(UsageError, match=r"MS-T172[\s\S]*--freeze encoder"):
        overrides_of(config, asked(thaw=0.25))


def test_several_processes_take_the_bundles_own_overlay(monkeypatch):
    config = read_config(RECIPE, "train")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    overlay = read_config(RECIPE, "multi_gpu_train")
    found = overrides_of(config, asked(bundle=RECIPE, epochs=3))
    assert {key: found[key] for key in overlay} == overlay
    assert found["epochs"] == 3
    frozen = overrides_of(config, asked(bundle=RECIPE, freeze=("encoder",)))
    assert frozen["network"]["module"] == overlay["network"]["module"].replace("@network_def", "@frozen")
    thawed = overrides_of(config, asked(bundle=RECIPE, freeze=("encoder",), thaw=0.5))
    assert thawed["network"] == overlay["network"] | {"find_unused_parameters": True}


def test_a_teacher_wraps_the_loss_that_was_chosen():
    config = read_config(RECIPE, "train")
    found = overrides_of(config, asked(bundle=RECIPE, loss="tversky", lessons=Lessons((str(RECIPE),))))
    assert found["base_loss"]["_target_"] == "medseg.training.DistillationLoss"
    assert found["base_loss"]["loss"] == "@losses#tversky"
    teacher = found["train#trainer#prepare_batch"]["teacher"]
    assert teacher["bundles"] == [str(RECIPE)]
    assert teacher["temperature"] == found["base_loss"]["temperature"]
    instances = find_bundle("phantom_instance_segmentation")
    config = read_config(instances, "train")
    with pytest.raises(UsageError, match="MS-T175"):
        overrides_of(config, asked(bundle=instances, lessons=Lessons((str(RECIPE),))))


def test_what_holds_another_is_overridden_first():
    """Else a new list of handlers would undo what an overlay says of one of them."""
    config = {"train": {"handlers": []}, "network": "@network_def", "losses": {"tversky": {}}}
    found = overrides_of(config, asked(freeze=("encoder",), thaw=0.5, loss="tversky"))
    depths = [key.count("#") for key in found]
    assert depths == sorted(depths)
