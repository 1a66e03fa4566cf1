"""Parallel rows: suppression by mask beside hard NMS by box, of one network's detections.

Boxes of neighbours there overlap by 0.4 to 0.6, their voxels not at all. A loose threshold on boxes keeps neighbours, and
many boxes of one object with them; so recall is compared among as many detections, the best-scored ones, and beside it
stands the average precision, which counts both.
"""

from __future__ import annotations

import numpy as np
import torch
from unseen import TRUE_IOU, crops, opened, row, volumes

from medseg.boxes.crops import crop_iou_matrix, crops_of_instances
from medseg.inferers.instances.merge import at_least
from medseg.inferers.instances.of_network import instances_of

GOAL = 10.0
BOX_NMS = (0.1, 0.3, 0.5)


def rows(quick: bool = False) -> list[dict]:
    network, inferer = opened()
    seen = list(volumes("parallel", 2 if quick else 20))
    before, found = network.box_nms, {}
    for threshold in (None, *BOX_NMS):
        network.box_nms = before if threshold is None else threshold
        own = {"iou": inferer.mask_iou, "iom": inferer.mask_iom} if threshold is None else {"iou": None, "iom": None}
        found[threshold] = Judged(seen, lambda image, own=own: detected(network, inferer, image, **own))
    network.box_nms = before
    return compared(found)


def compared(found: dict) -> list[dict]:
    ours, out = found[None], []
    for threshold in BOX_NMS:
        theirs, peer = found[threshold], f"hard box NMS at {threshold}"
        count = len(ours.scores)
        by_mask, by_box = ours.recall(count), theirs.recall(count)
        out.append(row(f"recall among the best {count} ({ours.objects} objects)", peer, by_mask, by_box))
        out.append(row("points of recall more", f"goal, over {peer}", 100 * (by_mask - by_box), GOAL))
        out.append(row(f"AP ({count} against {len(theirs.scores)} found)", peer, ours.ap(), theirs.ap()))
    return out


@torch.no_grad()
def detected(network, inferer, image, **masks):
    with inferer.computing(image):
        found = instances_of(network(image)[0], image.shape[2:], **masks)
    return at_least(found, inferer.min_score)


class Judged:
    """Detections of all volumes by falling score, and which object each of them outlines, -1 for none."""

    def __init__(self, seen, find) -> None:
        scores, of, self.objects = [], [], 0
        for image, ref in seen:
            _, truth = crops_of_instances(torch.from_numpy(ref))
            found = find(image)
            iou = crop_iou_matrix(crops(found), truth)
            best = iou.max(1) if len(found) else None
            for n in range(len(found)):
                scores.append(float(found.scores[n]))
                of.append(self.objects + int(best.indices[n]) if best.values[n] >= TRUE_IOU else -1)
            self.objects += len(truth)
        order = np.argsort(-np.array(scores), kind="stable")
        self.scores, self.of = np.array(scores)[order], np.array(of, int)[order]

    def recall(self, count: int) -> float:
        """Share of the objects among the `count` best-scored detections."""
        return len(set(self.of[:count].tolist()) - {-1}) / self.objects

    def ap(self) -> float:
        """Area under precision (made falling) by recall; an object counts once."""
        first = np.unique(self.of, return_index=True)[1]
        true = np.zeros(len(self.of))
        true[first[self.of[first] >= 0]] = 1
        precision = np.maximum.accumulate((true.cumsum() / np.arange(1, len(true) + 1))[::-1])[::-1]
        return float((precision * true).sum() / self.objects)
