"""Places of patches: around structures, rare ones as often as large ones; deformation in proportion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from medseg.training.plan.classes import classes_of
from medseg.training.plan.sampling import crops, deformation


def test_a_patch_that_holds_the_scan_needs_no_places():
    steps, choice = crops(np.full((5, 3), 40.0), (40, 40, 40), classes_of({}, {1}, Path("x")))
    assert steps == []
    assert "whole scan" in choice.value


def test_rare_structures_are_met_as_often_as_large_ones():
    classes = classes_of({}, {1, 3}, Path("x"))
    steps, _ = crops(np.full((1, 3), 64.0), (8, 8, 8), classes)
    label = torch.zeros(1, 64, 64, 64)
    label[:, 5:7, 5:7, 5:7] = 2  # 3 in files: numbers have no gaps here
    label[:, 30:60, 30:60, 30:60] = 1
    transform = ConfigParser({"it": {"_target_": "Compose", "transforms": steps}}).get_parsed_content("it")
    transform.set_random_state(0)
    met = {1: 0, 2: 0}
    rounds = 60
    for _ in range(rounds):
        (out,) = transform({"image": MetaTensor(label.clone()), "label": MetaTensor(label.clone())})
        assert out["image"].shape == (1, 10, 10, 10)
        assert set(out) == {"image", "label"}
        for value in met:
            met[value] += bool((out["label"] == value).any())
    # each is the centre of a third; 8 voxels out of 262,144 would otherwise never be met
    assert met[2] / rounds > 0.15
    assert met[1] / rounds > 0.15


def test_no_patch_is_cut_around_ignored_voxels():
    classes = classes_of({"labels": {"a": 1, "b": 4, "ignore": 9}}, {1, 4}, Path("x"))
    steps, _ = crops(np.full((1, 3), 64.0), (8, 8, 8), classes)
    label = torch.full((1, 64, 64, 64), float(classes.ignored))
    label[:, 5:7, 5:7, 5:7], label[:, 50:52, 50:52, 50:52], label[:, 30:32, 30:32, 30:32] = 1, 2, 0
    transform = ConfigParser({"it": {"_target_": "Compose", "transforms": steps}}).get_parsed_content("it")
    transform.set_random_state(0)
    for _ in range(30):
        (out,) = transform({"image": MetaTensor(label.clone()), "label": MetaTensor(label.clone())})
        assert (out["label"] != classes.ignored).any()


def test_a_scan_smaller_than_the_place_is_kept_whole():
    steps, _ = crops(np.array([[64.0, 64.0, 6.0]]), (16, 16, 8), classes_of({}, {1}, Path("x")))
    label = torch.zeros(1, 64, 64, 6)
    label[:, 3, 3, 3] = 1
    transform = ConfigParser({"it": {"_target_": "Compose", "transforms": steps}}).get_parsed_content("it")
    (out,) = transform({"image": MetaTensor(label.clone()), "label": MetaTensor(label.clone())})
    assert out["label"].shape == (1, 20, 20, 6)


def test_the_shipped_bundles_deformation_by_rule():
    assert deformation((40, 56, 40), (1, 1, 1))[0] == {"rotate_deg": 20.0, "elastic_mm": 2.0}
    assert deformation((40, 112, 112), (2, 2, 2))[0]["rotate_deg"] == 10.0
