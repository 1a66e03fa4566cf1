"""What a step takes: estimated on the safe side of the measurement, sizes read as people write them."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss

from medseg.networks import UNet
from medseg.training.plan.memory import measured_step_bytes, read_size, step_bytes
from medseg.training.plan.topology import topology_of


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GB", 8e9), ("8 gb", 8e9), ("7.5GiB", 7.5 * 2**30), ("900MB", 9e8), ("16", 16e9), ("4G", 4e9)],
)
def test_sizes(text, size):
    assert read_size(text) == pytest.approx(size)


@pytest.mark.parametrize("text", ["", "much", "-3GB", "0", "nan", "inf", "3 apples", "8TBs"])
def test_what_is_no_size(text):
    with pytest.raises((ValueError, KeyError)):
        read_size(text)


def test_the_estimate_grows_with_everything_that_takes_memory():
    topology = topology_of((64, 64, 64), (1, 1, 1), 16)
    plain = step_bytes(topology, (64, 64, 64), 2, 1, 3)
    assert step_bytes(topology, (64, 64, 96), 2, 1, 3) == pytest.approx(1.5 * plain, rel=0.05)
    assert step_bytes(topology, (64, 64, 64), 4, 1, 3) > 1.8 * plain
    assert step_bytes(topology, (64, 64, 64), 2, 1, 100) > plain


@pytest.mark.slow
def test_the_estimate_is_near_what_a_step_takes():
    topology = topology_of((80, 80, 80), (1, 1, 1), 16)
    network = UNet(1, 3, features=topology.features, deep_supervision=2)
    loss = DeepSupervisionLoss(DiceCELoss(to_onehot_y=True, softmax=True, batch=True))
    images, labels = torch.randn(2, 1, 80, 80, 80), torch.randint(0, 3, (2, 1, 80, 80, 80)).float()
    took = measured_step_bytes(network, loss, images, labels)
    assert 0.5 < step_bytes(topology, (80, 80, 80), 2, 1, 3) / took < 2.0
