"""Masks with and without the single points that are asked again (PointRend), on the same detections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from unseen import PRESETS, TRUE_IOU, crops, opened, row, volumes

from medseg.boxes.crops import crop_iou_matrix, crops_of_instances
from medseg.metrics.surface import surface_metrics

if TYPE_CHECKING:
    from medseg.inferers.instances.found import Instances

LARGE_VOXELS = 28


def rows(quick: bool = False) -> list[dict]:
    network, inferer = opened()
    return points(network, inferer, 2 if quick else 20)


def points(network, inferer, count: int) -> list[dict]:
    """HD95 and boundary IoU of matched instances, refined by points or as the mask head leaves them."""
    head, found = network.point_head, {}
    if head is None:
        return []
    for name, one in {"refined": head, "mask head alone": None}.items():
        network.point_head = one
        found[name] = [
            outlines(inferer.instances(image, network), ref) for p in PRESETS for image, ref in volumes(p, count // 2)
        ]
    network.point_head = head
    out = []
    for what, keep in {"all": lambda n: n > 0, f"sides over {LARGE_VOXELS} voxels": lambda n: n > LARGE_VOXELS}.items():
        # pairs that both ways found, so that both are measured on the same instances
        both = [
            (a[n], b[n])
            for a, b in zip(found["refined"], found["mask head alone"], strict=True)
            for n in a.keys() & b.keys()
            if keep(a[n]["side"])
        ]
        if not both:
            continue
        for key, less in {"hd95": True, "boundary_iou": False, "iou": False}.items():
            ours, theirs = (float(np.mean([pair[n][key] for pair in both])) for n in (0, 1))
            out.append(
                row(f"masks refined by points: {key}, {what} ({len(both)})", "mask head alone", ours, theirs, less=less)
            )
    return out


def outlines(found: Instances, ref: np.ndarray) -> dict[int, dict[str, float]]:
    """Id in the reference -> how well the instance that covers it best is outlined."""
    ids, truth = crops_of_instances(torch.from_numpy(ref))
    own = crops(found)
    iou = crop_iou_matrix(truth, own)
    out = {}
    for n, number in enumerate(ids.tolist()):
        if not own or float(iou[n].max()) < TRUE_IOU:
            continue
        pred, best = np.zeros(ref.shape, np.uint8), own[int(iou[n].argmax())]
        where = tuple(slice(a, a + s) for a, s in zip(best.low, best.mask.shape, strict=True))
        pred[where] = best.mask.numpy()
        told = surface_metrics(
            pred, (ref == number).astype(np.uint8), spacing_mm=(1, 1, 1), definition="surfel", tolerances_mm=(1,)
        )[1]
        out[number] = {
            "hd95": told.percentiles_mm[95],
            "boundary_iou": told.boundary_iou[1],
            "iou": float(iou[n].max()),
            "side": max(truth[n].mask.shape),
        }
    return out
