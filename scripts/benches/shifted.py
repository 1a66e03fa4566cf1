"""Does it matter where the tiles of a volume begin?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from unseen import crops, opened, row, volumes

from medseg.boxes.crops import crop_iou_matrix
from medseg.inferers.instances.merge import at_least, merge
from medseg.inferers.instances.of_network import instances_of
from medseg.inferers.instances.tiles import tiles, views

if TYPE_CHECKING:
    from medseg.inferers.instances.found import Instances


SHAPE = (96, 96, 192)
SHIFTS = (8, 16)


def rows(quick: bool = False) -> list[dict]:
    network, inferer = opened()
    return shifted(network, inferer, 1 if quick else 3)


def shifted(network, inferer, count: int) -> list[dict]:
    """Volumes of 192 mm in the bundle's own tiles, and in tiles of which the second begins earlier."""
    same, alike = [], []
    for image, _ in volumes("shapes", count, SHAPE):
        plain = tiled(image, network, inferer, 0)
        for shift in SHIFTS:
            moved = tiled(image, network, inferer, shift)
            iou = crop_iou_matrix(crops(plain), crops(moved))
            same.append(len(plain) == len(moved))
            alike += torch.cat([iou.amax(0), iou.amax(1)]).tolist()
    case = f"tiles shifted, {len(alike)} instances"
    return [
        row("tiles shifted: share of volumes with the same count", "goal", float(np.mean(same)), 1.0),
        row(f"{case}: mean mask IoU", "goal", float(np.mean(alike)), 0.99),
        row(f"{case}: share of mask IoU >= 0.99", "goal", float(np.mean(np.array(alike) >= 0.99)), 1.0),
        row(f"{case}: least mask IoU", "goal", min(alike), 0.99),
    ]


@torch.no_grad()
def tiled(image, network, inferer, shift: int) -> Instances:
    def one(tile):
        with inferer.computing(tile):
            return instances_of(network(tile)[0], tile.shape[2:], iou=inferer.mask_iou, iom=inferer.mask_iom)

    over = tiles(image.shape[2:], inferer.roi_size, inferer.overlap, stride=network.divisor, shift=shift)
    return at_least(merge(list(views(image, one, over))), inferer.min_score)
