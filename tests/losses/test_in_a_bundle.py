"""The losses named in a bundle's train config: through the gate, MONAI's transforms, loader and trainer, and they learn."""

from __future__ import annotations

import json
import math
from copy import deepcopy

import pytest
import torch
from ignite.engine import Events
from monai.data import MetaTensor

import medseg.losses
from medseg.bundle.gate import GatedParser, full_name, refusals

STEPS = [
    {"_target_": "medseg.transforms.DistanceMapsd", "keys": "label", "classes": [1, 2]},
    {"_target_": "RandFlipd", "keys": ["image", "label", "distances"], "prob": 0.5, "spatial_axis": 0},
    {"_target_": "RandSpatialCropd", "keys": ["image", "label", "distances"], "roi_size": [12, 12, 12], "random_size": False},
    {"_target_": "ConcatItemsd", "keys": ["label", "distances"], "name": "label"},
    {"_target_": "medseg.transforms.LabelledClassesd", "keys": "label", "n_classes": 3},
    {"_target_": "EnsureTyped", "keys": ["image", "label"], "track_meta": False},
]  # fmt: skip
COMPOUND = {
    "_target_": "medseg.losses.CompoundLoss",
    "losses": [
        {"_target_": "medseg.losses.FocalTverskyLoss", "batch": True},
        {"_target_": "medseg.losses.CrossEntropyLoss", "label_smoothing": 0.05, "weight": [1, 2, 2]},
        {"_target_": "medseg.losses.BoundaryLoss"},
        {"_target_": "medseg.losses.HausdorffLoss"},
    ],
    "weights": [1, 1, 0.02, 0.01],
}
CONFIG = {
    "imports": ["$import torch"],
    "network": {
        "_target_": "medseg.networks.UNet",
        "in_channels": 1,
        "out_channels": 3,
        "features": [8, 16, 32],
        "deep_supervision": 1,
    },
    "loss": {
        "_target_": "DeepSupervisionLoss",
        "loss": {"_target_": "medseg.losses.MarginalLoss", "loss": COMPOUND},
    },
    "optimizer": {"_target_": "torch.optim.AdamW", "params": "$@network.parameters()", "lr": 0.01},
    "dataset": {
        "_target_": "CacheDataset",
        "data": "@items",
        "transform": {"_target_": "Compose", "transforms": STEPS},
        "progress": False,
    },
    "loader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 2, "num_workers": 0},
    "trainer": {
        "_target_": "SupervisedTrainer",
        "max_epochs": 12,
        "device": "$torch.device('cpu')",
        "train_data_loader": "@loader",
        "network": "@network",
        "loss_function": "@loss",
        "optimizer": "@optimizer",
        "inferer": {"_target_": "medseg.training.MixedPrecisionInferer"},
        "decollate": False,
    },
}


def items() -> list[dict]:
    """Two bright boxes; the second case's class 2 was never labelled."""
    out = []
    for seed, labelled in enumerate([[1, 2], [1]]):
        image = 0.1 * torch.randn(1, 16, 16, 16, generator=torch.Generator().manual_seed(seed))
        label = torch.zeros(1, 16, 16, 16)
        label[0, 2:7, 3:12, 3:12], label[0, 9:14, 4:11, 4:11] = 1, 2
        image = image + label
        if labelled == [1]:
            label = torch.where(label == 2, 0, label)
        affine = torch.diag(torch.tensor([1.0, 1, 2, 1], dtype=torch.float64))
        out.append({"image": image, "label": MetaTensor(label, affine=affine), "labelled": labelled})
    return out


@pytest.mark.parametrize("name", medseg.losses.__all__)
def test_every_public_loss_passes_the_gate(name):
    target = f"medseg.losses.{name}"
    assert full_name(target) == target
    assert refusals({"loss": {"_target_": target}}) == []
    loss = getattr(medseg.losses, name)
    if name not in ("CompoundLoss", "MarginalLoss"):
        assert isinstance(GatedParser({"loss": {"_target_": target}}, None).get_parsed_content("loss"), loss)


def test_a_bundle_with_all_of_it_trains():
    torch.manual_seed(0)
    config = deepcopy(CONFIG)
    assert json.loads(json.dumps(config)) == config
    data = items()
    parser = GatedParser(config, None)
    parser["items"] = data
    trainer = parser.get_parsed_content("trainer")
    losses = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: losses.append(engine.state.output["loss"].item())
    )
    trainer.run()
    assert len(losses) == 12
    assert all(map(math.isfinite, losses))
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])
    # What was never labelled in the second case was learned from the first.
    network = parser.get_parsed_content("network").eval()
    with torch.no_grad():
        found = network(data[1]["image"][None])
    found = (found[0] if isinstance(found, list | tuple) else found).argmax(1)[0]
    assert (found[10:13, 6:9, 6:9] == 2).float().mean() > 0.9
    assert (found[3:6, 5:10, 5:10] == 1).float().mean() > 0.9
