"""The inferer with networks whose answer is known: bright objects, exactly, or twice over."""

from __future__ import annotations

import cc3d
import numpy as np
import pytest
import torch
from torch import nn

from medseg.boxes.convention import boxes_of_instances
from medseg.errors import UsageError
from medseg.inferers import InstanceInferer
from medseg.inferers.instances.of_network import instances_of, segment_tile
from medseg.networks.detections import Detections


class Bright(nn.Module):
    """Finds connected bright voxels; a score of 0.9, less 0.2 where an object is small."""

    divisor = (4, 4, 4)

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[tuple[int, ...], torch.dtype]] = []

    def forward(self, x):
        half = torch.nn.functional.conv3d(x, torch.ones(1, 1, 1, 1, 1)).dtype
        self.seen.append((tuple(x.shape[2:]), half))
        ids = torch.from_numpy(cc3d.connected_components((x[0, 0] > 0.5).numpy(), connectivity=6).astype(np.int32))
        values, boxes = boxes_of_instances(ids)
        masks = []
        for value, (a, b, c, i, j, k) in zip(values, boxes.long().tolist(), strict=True):
            masks.append((ids[a:i, b:j, c:k] == value).float())
        small = (boxes[:, 3:] - boxes[:, :3]).prod(1) < 30
        scores = torch.where(small, 0.7, 0.9)
        return [Detections(boxes, scores, torch.zeros(len(boxes), dtype=torch.int64), masks)]


def volume() -> torch.Tensor:
    x = torch.zeros(1, 1, 40, 32, 36)
    x[..., 2:10, 3:9, 4:12] = 1
    x[..., 16:27, 12:20, 15:25] = 1
    x[..., 33:36, 2:5, 30:33] = 1
    return x


@pytest.mark.parametrize("options", [{}, {"roi_size": (24, 24, 24), "overlap": 12}, {"flips": [0, (1, 2)]}])
def test_every_object_once_however_it_is_looked_at(options):
    inferer = InstanceInferer(**options)
    ids = inferer(volume(), Bright())
    assert ids.shape == (1, 1, 40, 32, 36)
    assert ids.dtype == torch.int32
    assert torch.equal(ids > 0, volume() > 0.5)
    assert ids.unique().tolist() == [0, 1, 2, 3]
    assert inferer.found is not None
    assert (inferer.found.scores.diff() <= 0).all()
    assert [int((ids == n + 1).sum()) for n in range(3)][-1] == 27


def test_a_least_score_and_progress():
    said = []
    inferer = InstanceInferer((24, 24, 24), 12, min_score=0.8)
    inferer.progress = lambda done, of: said.append((done, of))
    assert int(inferer(volume(), Bright()).max()) == 2
    assert said[-1][0] == said[-1][1] == len(said) == 12


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precision_is_the_networks(precision):
    network = Bright()
    InstanceInferer(precision=precision)(volume(), network)
    assert network.seen[0][1] == {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]


def test_of_two_claims_on_one_object_the_surer_stays_whatever_their_classes():
    boxes = torch.tensor([[2.0, 2, 2, 8, 8, 8], [2, 2, 2, 8, 8, 9], [2, 2, 2, 5, 5, 5], [10, 10, 10, 14, 14, 14]])
    masks = torch.ones(4, 6, 6, 6)
    masks[3] = 0  # nothing in it
    found = instances_of(
        Detections(boxes, torch.tensor([0.6, 0.9, 0.5, 0.8]), torch.tensor([0, 1, 0, 0]), masks), (16, 16, 16)
    )
    assert found.scores.tolist() == [pytest.approx(0.9)]
    assert found.classes.tolist() == [1]


def test_masks_of_several_sizes_are_pasted_too():
    (found,) = Bright()(volume())
    assert len({m.shape for m in found.masks}) == 3
    assert [tuple(m.probability.shape) for m in segment_tile(volume(), Bright()).masks] == [
        (8, 6, 8),
        (11, 8, 10),
        (3, 3, 3),
    ]


def test_misuse():
    with pytest.raises(UsageError, match="fp16") as caught:
        InstanceInferer(precision="fp16")
    assert caught.value.code == "MS-U374"
    with pytest.raises(UsageError) as caught:
        InstanceInferer()(torch.zeros(2, 1, 8, 8, 8), Bright())
    assert caught.value.code == "MS-U141"
