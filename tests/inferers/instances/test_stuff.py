"""Stuff over whole volumes: networks that say it voxel by voxel, and tiles that each say something else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from medseg.inferers import InstanceInferer
from medseg.inferers.instances.found import nothing
from medseg.inferers.instances.samples import samples_of
from medseg.inferers.instances.stuff import stuff_map
from medseg.inferers.instances.test_time import Each, Flipped, Several
from medseg.inferers.instances.tiles import tiles, views
from medseg.networks.detections import Detections

SHAPE = (21, 16, 18)


class Grey(nn.Module):
    """No instance; the stuff of a voxel is its grey value."""

    divisor = (4, 4, 4)

    def forward(self, x):
        none = nothing()
        return [
            Detections(none.boxes, none.scores, none.classes, torch.zeros(0, 2, 2, 2), image[0].byte()) for image in x
        ]


def image() -> torch.Tensor:
    return torch.randint(0, 5, (1, 1, *SHAPE), generator=torch.Generator().manual_seed(0)).float()


@pytest.mark.parametrize(
    "options", [{}, {"roi_size": (8, 12, 8), "overlap": 4}, {"roi_size": (8, 8, 8)}, {"flips": [0, (1, 2)]}]
)
def test_the_map_is_the_networks_however_the_volume_is_cut(options):
    inferer = InstanceInferer(precision="fp32", **options)
    ids = inferer(image(), Grey())
    assert not ids.any()
    assert inferer.stuff.dtype == torch.uint8
    assert torch.equal(inferer.stuff, image()[0, 0].byte())


def test_each_voxel_is_the_tiles_in_whose_core_it_lies():
    over = tiles(SHAPE, 8, 4, stride=4)
    turn = iter(range(1, len(over) + 1))

    def network(tile):
        return replace(nothing(), stuff=torch.full(tile.shape[2:], next(turn), dtype=torch.uint8))

    seen = list(views(image(), network, over))
    assert sum(view.stuff.numel() for view in seen) == image().numel(), "one byte a voxel is kept"
    found = stuff_map(seen, SHAPE)
    for n, tile in enumerate(over, 1):
        inside = torch.zeros(SHAPE, dtype=torch.bool)
        inside[tuple(slice(a, b) for a, b in zip(tile.core_low, tile.core_high, strict=True))] = True
        assert torch.equal(found == n, inside)


def test_a_network_without_stuff_has_no_map():
    inferer = InstanceInferer(precision="fp32")
    inferer(image(), Grey())

    class Plain(Grey):
        def forward(self, x):
            return [replace(one, stuff=None) for one in super().forward(x)]

    inferer(image(), Plain())
    assert inferer.stuff is None, "nothing stays of the image before"


def test_of_several_opinions_the_first_says_what_stuff_there_is():
    def saying(value):
        return lambda tile: replace(nothing(), stuff=torch.full(tile.shape[2:], value, dtype=torch.uint8))

    assert (Several([saying(3), saying(4)])(image()).stuff == 3).all()
    assert Flipped(saying(3), (0,))(image()).stuff is None
    inferer = InstanceInferer((8, 8, 8), 4, precision="fp32")
    samples_of(image(), inferer, Each([saying(3), Flipped(saying(4), (0,)), saying(5)]), Grey())
    assert (inferer.stuff == 3).all()
    assert inferer.stuff.shape == SHAPE
