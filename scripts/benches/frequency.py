"""Does Monte Carlo dropout in the heads tell true detections from false ones: by how many of the samples saw them?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from unseen import PRESETS, TRUE_IOU, opened, row, volumes

from medseg.boxes.crops import crop_iou_matrix, crops_of_instances
from medseg.inferers.dropout import McDropout
from medseg.inferers.instances.agreement import agreement
from medseg.inferers.instances.association import seen_in
from medseg.inferers.instances.dropout import Dropped
from medseg.inferers.instances.samples import samples_of

if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLES = 10


def rows(quick: bool = False) -> list[dict]:
    network, inferer = opened()
    return doubt(network, inferer, 1 if quick else 10)


def doubt(network, inferer, count: int) -> list[dict]:
    """AUROC of true against false detections of Monte Carlo dropout in the heads, all presets pooled."""
    source = Dropped(McDropout(network, SAMPLES), inferer.mask_iou, inferer.mask_iom)
    frequency, score, true = [], [], []
    for preset in PRESETS:
        for image, ref in volumes(preset, count):
            told = agreement(samples_of(image, inferer, source, network), (1.0, 1.0, 1.0))
            _, truth = crops_of_instances(torch.from_numpy(ref))
            iou = crop_iou_matrix([one.voxels for one in seen_in(told.instances)], truth)
            frequency += told.frequency.tolist()
            score += told.instances.scores.tolist()
            true += (iou.amax(1) >= TRUE_IOU).tolist()
    false = len(true) - sum(true)
    case = f"AUROC of true against false detections ({sum(true)} and {false}), {SAMPLES} samples"
    return [
        row(f"{case}: detection frequency", "goal", auroc(frequency, true), 0.85),
        row(f"{case}: mean score", "goal", auroc(score, true), 0.85),
    ]


def auroc(values: Sequence[float], true: Sequence[bool]) -> float:
    """Share of (true, false) pairs in which the true one has the larger value; equal ones count half."""
    x, y = np.array(values), np.array(true, bool)
    if y.all() or not y.any():
        return float("nan")
    above = x[y][:, None] - x[~y][None]
    return float(((above > 0) + 0.5 * (above == 0)).mean())
