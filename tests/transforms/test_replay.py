"""A record holds all that was chosen: made again from JSON, a case is the same bit for bit."""

from __future__ import annotations

import json

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from medseg.transforms import (
    RandBiasd,
    RandBlurd,
    RandContrastd,
    RandDeformd,
    RandGammad,
    RandLowResolutiond,
    RandMirrord,
    RandNoised,
    replay,
)


def pipeline() -> Compose:
    noted = {"record_key": "record"}
    both = ["image", "label"]
    return Compose(
        [
            RandBiasd("image", prob=0.5, **noted),
            RandDeformd(both, "label", (12, 10, 8), prob=0.7, **noted),
            RandMirrord(both, "label", labels=[[1, 2]], axcodes="RAS", **noted),
            RandNoised("image", prob=0.5, **noted),
            RandBlurd("image", prob=0.5, channel_prob=0.5, **noted),
            RandContrastd("image", prob=0.5, **noted),
            RandLowResolutiond("image", prob=0.5, **noted),
            RandGammad("image", prob=0.5, invert=True, **noted),
        ]
    )


@pytest.mark.parametrize("seed", range(6))
def test_a_case_is_made_again_from_its_record(seed):
    data = {"image": torch.rand(2, 14, 13, 12), "label": torch.randint(0, 4, (1, 14, 13, 12))}
    out = pipeline().set_random_state(seed)(data)
    record = json.loads(json.dumps(out["record"]))
    assert {"Deformation", "Mirror"} <= {row["choice"] for row in record}
    again = replay(data, record)
    for key in data:
        assert torch.equal(again[key], out[key])
    assert "record" not in data


def test_every_choice_is_noted_and_only_when_made():
    data = {"image": torch.rand(2, 14, 13, 12), "label": torch.randint(0, 4, (1, 14, 13, 12))}
    seen: set[str] = set()
    rows = []
    for seed in range(20):
        record = pipeline().set_random_state(seed)(data)["record"]
        seen |= {row["choice"] for row in record}
        rows.append(len(record))
    assert seen == {"BiasField", "Blur", "Contrast", "Deformation", "Gamma", "LowResolution", "Mirror", "Noise"}
    assert min(rows) < max(rows)


def test_classes_of_mirrored_instances_are_made_again():
    data = {"label": torch.arange(4).reshape(1, 4, 1, 1), "classes": torch.tensor([-1, 0, 1, 0])}
    transform = RandMirrord(
        "label", (), [0], prob=1.0, labels=[[1, 2]], classes_key="classes", axcodes="RAS", record_key="record"
    )  # fmt: skip
    out = transform(data)
    assert replay(data, out["record"])["classes"].tolist() == out["classes"].tolist() == [-1, 1, 0, 1]


def test_images_with_affines_are_made_again():
    data = {"image": MetaTensor(torch.rand(1, 14, 13, 12)), "label": MetaTensor(torch.ones(1, 14, 13, 12))}
    out = pipeline().set_random_state(1)(data)
    again = replay(data, out["record"])
    assert torch.equal(torch.as_tensor(again["image"]), torch.as_tensor(out["image"]))


def test_an_unknown_choice_is_refused():
    with pytest.raises(ValueError, match="nothing here makes a 'Sharpen'"):
        replay({}, [{"choice": "Sharpen", "keys": [], "values": {}}])
