"""The whole of `medseg plan`: a bundle that keeps every promise, says why, and trains."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from medseg.bundle.check import check_bundle
from medseg.bundle.domain import Domain
from medseg.bundle.load import load_bundle
from medseg.errors import InputError, OutputError, UsageError
from medseg.training.plan.plan import plan_bundle
from medseg.training.train import train_bundle


def config(bundle, name):
    return json.loads((bundle / "configs" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def planned(blocks, tmp_path_factory):
    return plan_bundle(blocks, tmp_path_factory.mktemp("planned") / "blocks_segmentation")


def test_the_bundle_keeps_every_promise(planned):
    assert planned.problems == ()
    assert check_bundle(planned.bundle) == []


def test_it_says_what_it_was_planned_from(planned):
    train, inference = config(planned.bundle, "train"), config(planned.bundle, "inference")
    assert train["channels"] == ["T2"]
    assert [(row["value"], row["name"], row["mirror"]) for row in train["labels"]] == [
        (1, "kidney left", "kidney right"),
        (2, "kidney right", "kidney left"),
    ]
    assert len(train["validation"]) == 1
    assert train["network_def"] == inference["network_def"]
    domain = Domain.from_json(inference["domain"])
    assert domain.cases == 5
    assert domain.volume_ml["kidney left"] == (1.0, 1.0)
    assert domain.extent_mm[0] == (24.0, 24.0)
    mirror = next(one for one in train["train"]["random_transforms"] if one["_target_"].endswith("RandMirrord"))
    assert mirror["axes"] == [0]  # a mirrored left kidney is a right one: they trade
    assert mirror["labels"] == "@labels"
    assert "RandFlipd" not in json.dumps(train)


def test_the_report_says_every_decision_with_its_reason(planned):
    text = (planned.bundle / "docs" / "plan.md").read_text(encoding="utf-8")
    topics = {choice.topic for choice in planned.choices}
    assert topics >= {
        "split", "spacing", "normalisation", "classes", "patch", "network", "batch", "memory", "loss", "sampling",
        "deformation", "mirroring", "epochs", "validation", "cache", "clean-up",
    }  # fmt: skip
    for choice in planned.choices:
        assert choice.why
        assert f"| {choice.topic} |" in text
    assert "measured here" in text
    assert "1 kidney left" in text


def test_it_trains_and_the_run_is_a_bundle(planned, blocks, tmp_path):
    run = train_bundle(planned.bundle, blocks, tmp_path / "run", epochs=1)
    load_bundle(run)
    assert (run / "models" / "model.safetensors").is_file()
    assert (run / "docs" / "plan.md").is_file()


def test_regions_of_several_channels_train_with_sigmoids(maker, tmp_path):
    for n in range(3):
        label = np.zeros((24, 24, 24), np.uint8)
        label[4:18, 4:18, 4:18] = 1
        label[6:14, 6:14, 6:14] = 2
        label[8:12, 8:12, 8:12] = 3
        maker.case(f"tumour_{n}", n, labels=label, channels=2)
    maker.say(
        channel_names={"0": "FLAIR", "1": "T1"},
        labels={"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]},
        regions_class_order=[1, 2, 3],
    )
    found = plan_bundle(maker.root, tmp_path / "tumour_segmentation", measure=False)
    assert found.problems == ()
    train, inference = config(found.bundle, "train"), config(found.bundle, "inference")
    assert train["network_def"]["out_channels"] == 3
    assert train["network_def"]["in_channels"] == 2
    assert inference["inferer"]["regions"] == [1, 2, 3]
    run = train_bundle(found.bundle, maker.root, tmp_path / "run", epochs=1)
    loaded = load_bundle(run)
    assert [row.region for row in loaded.labels] == [(1, 2, 3), (2, 3), (3,)]
    for loss in train["losses"]:
        assert train["losses"][loss]["_target_"] == "medseg.training.RegionLoss"


def test_a_large_scan_is_cut_around_structures_and_trains(maker, tmp_path):
    for n in range(2):
        label = np.zeros((112, 112, 112), np.uint8)
        label[20 + n : 24 + n, 30:34, 40:44] = 1
        label[60:100, 60:100, 60:100] = 2
        maker.case(f"large_{n}", n, labels=label)
    found = plan_bundle(maker.root, tmp_path / "large_segmentation", memory="1.5GB", measure=False)
    assert found.problems == ()
    train = config(found.bundle, "train")
    assert max(train["patch_size"]) < 112
    targets = [one["_target_"] for one in train["train"]["random_transforms"]]
    assert targets[:3] == ["ClassesToIndicesd", "RandCropByLabelClassesd", "DeleteItemsd"]
    assert (
        train["train"]["dataset"]["data"]["at_least"] == 20 * train["batch_size"]
    )  # one case makes an epoch all the same
    train_bundle(found.bundle, maker.root, tmp_path / "run", minutes=0.05)


def test_case_folders_with_named_channels_are_understood_by_plan_and_train(tmp_path):
    root = tmp_path / "data"
    rng = np.random.default_rng(0)
    for n in range(3):
        label = np.zeros((24, 24, 24), np.uint8)
        label[5:12, 5:12, 5:12] = 1
        for name, array in (
            ("FLAIR", label * 50.0 + rng.normal(0, 9, label.shape)),
            ("T1", rng.normal(0, 9, label.shape)),
        ):
            (root / f"patient{n}").mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array.astype(np.float32), np.eye(4)), root / f"patient{n}" / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(label, np.eye(4)), root / f"patient{n}" / "lesions.nii.gz")
    found = plan_bundle(root, tmp_path / "lesions_segmentation", measure=False)
    assert found.problems == ()
    train = config(found.bundle, "train")
    assert train["channels"] == ["FLAIR", "T1"]
    assert train["train"]["dataset"]["data"]["channels"] == "@channels"
    train_bundle(found.bundle, root, tmp_path / "run", epochs=1)


def test_instances_are_planned_with_anchors_that_reach_them_and_train(maker, tmp_path):
    for n in range(3):
        ids = np.zeros((32, 32, 32), np.uint8)
        ids[3:11, 4:12, 5:13], ids[18:26, 16:24, 10:18] = 1, 2
        maker.case(f"cells_{n}", n, labels=ids)
    found = plan_bundle(maker.root, tmp_path / "cells_instance_segmentation", task="instances")
    assert found.problems == ()
    train = config(found.bundle, "train")
    assert train["network_def"]["_target_"] == "medseg.networks.MaskRCNN"
    assert any([8, 8, 8] in level for level in train["network_def"]["anchors"])
    train_bundle(found.bundle, maker.root, tmp_path / "run", epochs=1)


def test_nothing_is_overwritten(blocks, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.docx").touch()
    with pytest.raises(OutputError, match="MS-T152"):
        plan_bundle(blocks, tmp_path / "full")


@pytest.mark.parametrize(
    ("options", "code"),
    [({"memory": "much"}, "MS-T153"), ({"task": "detection"}, "MS-T153"), ({"memory": "1.0GB"}, "MS-T151")],
)
def test_wrong_options_are_refused_and_nothing_is_written(blocks, tmp_path, options, code):
    with pytest.raises(UsageError, match=code):
        plan_bundle(blocks, tmp_path / "planned_segmentation", **options)
    assert not (tmp_path / "planned_segmentation").exists()


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="MS-T103"):
        plan_bundle(tmp_path / "absent", tmp_path / "planned_segmentation")
