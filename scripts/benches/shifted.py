"""Does it matter where the tiles of a volume begin?"""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np
import torch
from unseen import crops, opened, row, volumes

from medseg.boxes.crops import crop_iou_matrix
from medseg.inferers.instances.tiles import tiles

if TYPE_CHECKING:
    from medseg.inferers.instances.found import Instances


SHAPE = (96, 96, 192)
SHIFTS = (8, 16)


def rows(quick: bool = False) -> list[dict]:
    network, inferer = opened()
    return shifted(network, inferer, 1 if quick else 3)


def shifted(network, inferer, count: int) -> list[dict]:
    """Volumes of 192 mm in the bundle's own tiles, and in tiles of which the second begins earlier."""
    same, ours, theirs = [], [], []
    for image, _ in volumes("shapes", count, SHAPE):
        for step, alike in ((inferer.recentre, ours), (None, theirs)):
            plain, *moved = (tiled(image, network, inferer, shift, step) for shift in (0, *SHIFTS))
            for one in moved:
                iou = crop_iou_matrix(crops(plain), crops(one))
                alike += torch.cat([iou.amax(0), iou.amax(1)]).tolist()
                if step is not None:
                    same.append(len(plain) == len(one))
    case, peer = f"tiles shifted, {len(ours)} instances", "not seen again around each"
    return [
        row("tiles shifted: share of volumes with the same count", "goal", float(np.mean(same)), 1.0),
        row(f"{case}: mean mask IoU", peer, float(np.mean(ours)), float(np.mean(theirs))),
        row(f"{case}: share of mask IoU >= 0.99", peer, at_least(ours), at_least(theirs)),
        row(f"{case}: least mask IoU", "goal", min(ours), 0.99),
        row(f"{case}: least mask IoU", peer, min(ours), min(theirs)),
    ]


def at_least(alike: list[float]) -> float:
    return float(np.mean(np.array(alike) >= 0.99))


def tiled(image, network, inferer, shift: int, step: int | None) -> Instances:
    """The instances from tiles of which the second along an axis begins `shift` voxels earlier."""

    def over(shape, network):
        return tiles(shape, inferer.roi_size, inferer.overlap, stride=network.divisor, shift=shift)

    with patch.multiple(inferer, tiles_over=over, recentre=step):
        return inferer.instances(image, network)
