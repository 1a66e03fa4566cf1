"""From what a network found in a tile to instances: masks into voxels, and of several claims on one object the best."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from medseg.boxes.crops import Crop, suppress_by_mask
from medseg.inferers.instances.found import INSIDE, Instances, pick
from medseg.inferers.instances.paste import paste, paste_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from medseg.networks.detections import Detections


def instances_of(
    detections: Detections, shape: Sequence[int], *, iou: float | None = 0.3, iom: float | None = 0.6
) -> Instances:
    """Paste masks and drop what is double by its voxels; an empty mask is no instance.

    Args:
        detections: of one image or tile.
        shape: (D, H, W) of it.
        iou: masks that overlap more are one object, whatever their classes: the result is one map, where a voxel
            belongs to one. See `medseg.boxes.crops.suppress_by_mask`.
        iom: the same for intersection over the smaller one.
    """
    boxes = detections.boxes.float()
    with torch.autocast(boxes.device.type, enabled=False):  # that is for the network alone
        if isinstance(detections.masks, list):  # refined box by box, each as fine as its box needs
            masks = [paste(mask, box, shape) for mask, box in zip(detections.masks, boxes, strict=True)]
        else:
            masks = paste_all(detections.masks, boxes, shape)
    found = Instances(boxes, detections.scores.float(), detections.classes, masks)
    crops = [Crop(mask.low, (mask.probability >= INSIDE).cpu()) for mask in masks]
    some = torch.tensor([bool(crop.mask.any()) for crop in crops], dtype=torch.bool)
    found, crops = pick(found, some), [crop for crop in crops if crop.mask.any()]
    found = pick(found, suppress_by_mask(crops, found.scores, iou=iou, iom=iom))
    return replace(found, stuff=getattr(detections, "stuff", None))


@torch.no_grad()
def segment_tile(tile: Tensor, network: nn.Module, *, iou: float | None = 0.3, iom: float | None = 0.6) -> Instances:
    """(1, C, d, h, w) -> its instances, in the tile's voxels."""
    return instances_of(network(tile)[0], tile.shape[2:], iou=iou, iom=iom)
