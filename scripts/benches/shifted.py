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


def rows(quick: bool = False) -> list[dict]:
    network, inferer = opened()
    return shifted(network, inferer, 1 if quick else 4)


def shifted(network, inferer, count: int) -> list[dict]:
    """Volumes of 96 mm in tiles of 64 and in tiles that begin elsewhere."""
    same, least = [], []
    for image, _ in volumes("shapes", count, 96):
        plain = tiled(image, network, inferer, 0)
        for shift in (8, 16):
            moved = tiled(image, network, inferer, shift)
            iou = crop_iou_matrix(crops(plain), crops(moved))
            same.append(len(plain) == len(moved))
            least.append(float(torch.minimum(iou.amax(0).min(), iou.amax(1).min())))
    return [
        row("tiles shifted: share of volumes with the same count", "goal", float(np.mean(same)), 1.0),
        row("tiles shifted: least mask IoU of an instance", "goal", min(least), 0.99),
        row("tiles shifted: mean of the least mask IoU of a volume", "goal", float(np.mean(least)), 0.99),
    ]


@torch.no_grad()
def tiled(image, network, inferer, shift: int) -> Instances:
    def one(tile):
        with inferer.computing(tile):
            return instances_of(network(tile)[0], tile.shape[2:], iou=inferer.mask_iou, iom=inferer.mask_iom)

    over = tiles(image.shape[2:], 64, 40, stride=network.divisor, shift=shift)
    return at_least(merge(list(views(image, one, over))), inferer.min_score)
