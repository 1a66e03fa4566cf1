"""The pipeline that docs/augmentation.md shows: any bundle may name it, it runs, and labels stay what they were."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose

from medseg.bundle.gate import refusals

PAGE = Path(__file__).parents[2] / "docs" / "augmentation.md"
SIDES = [{"value": 1, "name": "left", "mirror": "right"}, {"value": 2, "name": "right", "mirror": "left"}]


def config() -> dict:
    text = re.search(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1]
    return {"transforms": json.loads(text), "patch_size": [12, 14, 10], "labels": SIDES}


def test_a_bundle_may_name_it():
    assert refusals(config()) == []


@pytest.mark.parametrize("seed", range(4))
def test_it_runs_and_a_seed_says_all(seed):
    affine = torch.eye(4, dtype=torch.float64)
    label = torch.zeros(1, 20, 20, 20)
    label[0, :10], label[0, 10:], label[0, :, :4] = 1, 2, 0
    data = {"image": MetaTensor(torch.rand(1, 20, 20, 20), affine=affine), "label": MetaTensor(label, affine=affine)}
    pipeline = Compose(ConfigParser(config()).get_parsed_content("transforms"))
    one, two = (pipeline.set_random_state(seed)(data) for _ in range(2))
    for key in data:
        assert one[key].shape == (1, 12, 14, 10)
        assert torch.equal(torch.as_tensor(one[key]), torch.as_tensor(two[key]))
    assert set(one["label"].unique().tolist()) <= {0, 1, 2}


def test_left_stays_on_the_left_through_all_of_it():
    grid = torch.arange(20.0).reshape(1, 20, 1, 1).expand(1, 20, 20, 20)
    data = {"image": torch.rand(1, 20, 20, 20), "label": (1 + (grid >= 10)).to(torch.uint8)}
    pipeline = Compose(ConfigParser(config()).get_parsed_content("transforms")).set_random_state(0)
    checked = 0
    for _ in range(20):
        label = pipeline(data)["label"][0]
        if {1, 2} <= set(label.unique().tolist()):
            checked += 1
            left, right = ((label == value).nonzero()[:, 0].float().mean() for value in (1, 2))
            assert left < right
    assert checked > 10
