"""Parallel rows: recall of suppression by mask beside hard NMS by box, of the same network's detections."""

from __future__ import annotations

import torch
from unseen import TRUE_IOU, crops, opened, row, volumes

from medseg.boxes.crops import crop_iou_matrix, crops_of_instances
from medseg.inferers.instances.merge import at_least
from medseg.inferers.instances.of_network import instances_of

POINTS = 10.0


def rows(quick: bool = False) -> list[dict]:
    network, inferer = opened()
    return suppression(network, inferer, 2 if quick else 20)


def suppression(network, inferer, count: int) -> list[dict]:
    """Recall of parallel ellipsoids whose boxes overlap by 0.4 to 0.6."""
    before, out = network.box_nms, []
    listed = list(volumes("parallel", count))
    ours = recall(listed, lambda image: inferer.instances(image, network))
    for threshold in (0.3, 0.5):

        def boxes_alone(image, threshold=threshold):
            network.box_nms = threshold
            with torch.no_grad(), inferer.computing(image):
                found = instances_of(network(image)[0], image.shape[2:], iou=None, iom=None)
            return at_least(found, inferer.min_score)

        theirs = recall(listed, boxes_alone)
        network.box_nms = before
        case = f"parallel: recall at mask IoU {TRUE_IOU}, suppression by mask"
        out.append(row(case, f"hard box NMS at {threshold}", ours, theirs))
        out.append(row(f"{case}, points more", "goal", 100 * (ours - theirs), POINTS))
    return out


def recall(listed, find) -> float:
    hits = total = 0
    for image, ref in listed:
        _, truth = crops_of_instances(torch.from_numpy(ref))
        iou = crop_iou_matrix(truth, crops(find(image)))
        hits += int((iou.amax(1) >= TRUE_IOU).sum()) if iou.shape[1] else 0
        total += len(truth)
    return hits / total
