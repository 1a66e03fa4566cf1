"""One training step as `medseg train` takes it, beside the same step as MONAI's trainer takes it by default: fp32, eager.

The network, patch, batch, loss and optimizer are those of the shipped hippocampus recipe; in a second case MONAI's U-Net.
A CPU without native bfloat16 runs float32 either way: its rows say so.
"""

from __future__ import annotations

import copy

import torch
from ignite.engine import Engine
from interleaved import timed
from monai.losses import DeepSupervisionLoss, DiceCELoss
from monai.networks.nets import UNet as MonaiUNet

from medseg.bundle import find_bundle
from medseg.bundle.config import read_config
from medseg.inferers.precision import has_native_bf16
from medseg.networks import UNet
from medseg.training import GradientGuard, MixedPrecisionInferer, MovingAverage

RECIPE = "hippocampus_mri_segmentation"


def rows(quick: bool = False) -> list[dict]:
    config = read_config(find_bundle(RECIPE), "train")
    arguments = {key: value for key, value in config["network_def"].items() if key != "_target_"}
    size = [16, 16, 16] if quick else config["patch_size"]
    repeats = 1 if quick else 15
    networks = {
        RECIPE: UNet(**arguments),
        "MONAI UNet 16-32-64-128": MonaiUNet(3, 1, 3, (16, 32, 64, 128), (2, 2, 2), num_res_units=2),
    }
    device = torch.device("cpu")
    found = []
    for name, network in networks.items():
        torch.manual_seed(0)
        images = torch.randn(config["batch_size"], 1, *size)
        labels = torch.randint(0, 3, (config["batch_size"], 1, *size)).float()
        ways = {
            "medseg": step(copy.deepcopy(network).to(memory_format=torch.channels_last_3d), images, labels, ours=True),
            "fp32 eager": step(copy.deepcopy(network), images, labels, ours=False),
        }
        kind = "bf16, channels-last" if has_native_bf16(device) else "float32 (no native bf16 here), channels-last"
        found += timed(f"one step, {name}, {config['batch_size']} x {'x'.join(map(str, size))}, {kind}", ways, repeats)
    return found


def step(network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, *, ours: bool):
    """A function that trains one step; ours with all that the recipe does in a step: guard and average."""
    loss = DeepSupervisionLoss(DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01)
    inferer, guard, average = MixedPrecisionInferer(), GradientGuard(network), MovingAverage(network)
    engine = Engine(lambda *_: None)
    engine.state.iteration = 1
    network.train()

    def plain() -> None:
        optimizer.zero_grad(set_to_none=False)  # MONAI's default
        loss(network(images), labels).backward()
        optimizer.step()

    def mixed() -> None:
        optimizer.zero_grad(set_to_none=False)
        loss(inferer(images, network), labels).backward()
        guard(engine)
        optimizer.step()
        average.update(engine)

    return mixed if ours else plain
