"""How far several samples of one volume agree, instance by instance.

Samples are what a network with dropout, the members of an ensemble or mirror images found in the same volume; which of
their instances are one object says association.py. For an object that n of T samples found, with scores s and masks p:

    frequency   n / T                                score   sum(s) / T: rarely found, or with doubt, is low
    mask        mean of the n masks                  box     mean of the n boxes, and their SD in mm for each edge
    entropy     of the mean of all T masks (0 where a sample found nothing), / ln 2: whether a voxel belongs to the
                object, and whether the object is there at all

SDs are those of a population, nan for a lone sample. No object is dropped, however rarely it was found: `rare` marks
those of a frequency below 1/2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from medseg.boxes.crops import crop_iou_matrix
from medseg.errors import UsageError
from medseg.inferers.instances.association import Object, as_crop, associate, seen_in
from medseg.inferers.instances.found import INSIDE, Instances

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.inferers.instances.association import Seen
    from medseg.inferers.instances.found import MaskCrop

# Masks of different samples may be one object from here on.
SAME_OBJECT_IOU = 0.3
# Found by fewer of the samples than this is rare.
RARE = 0.5


@dataclass(frozen=True, eq=False)
class Agreement:
    """N objects by falling score, and how far T samples agree on each.

    Args:
        instances: the objects: mean boxes, scores sum(s) / T, the classes of most votes, mean masks in float16.
        frequency: (N,) share of the samples that found it, in (0, 1].
        score_mean: (N,) mean score of the samples that found it.
        score_sd: (N,) and the SD.
        box_sd_mm: (N, 6) SD of each edge of the box.
        volume_mean_mm3: (N,) mean volume of the masks of the samples that found it, at a probability of 1/2.
        volume_sd_mm3: (N,) and the SD.
        mask_iou: (N,) mean IoU of the samples' masks with the mean mask.
        class_share: (N,) share of the samples that found it and gave it its class.
        entropy: N crops of the voxels' entropy / ln 2, float16 in [0, 1].
        members: (N, T) int64, which instance of each sample it is; -1 where that sample did not find it.
    """

    instances: Instances
    frequency: np.ndarray
    score_mean: np.ndarray
    score_sd: np.ndarray
    box_sd_mm: np.ndarray
    volume_mean_mm3: np.ndarray
    volume_sd_mm3: np.ndarray
    mask_iou: np.ndarray
    class_share: np.ndarray
    entropy: list[MaskCrop]
    members: np.ndarray

    @property
    def rare(self) -> np.ndarray:
        """(N,) bool: found by fewer than half of the samples."""
        return self.frequency < RARE

    def __len__(self) -> int:
        return len(self.instances)


def agreement(samples: Sequence[Instances], spacing_mm: Sequence[float], *, iou: float = SAME_OBJECT_IOU) -> Agreement:
    """Associate the instances of several samples and say how far they agree.

    Args:
        samples: T >= 1 sets of instances of one volume, on the CPU.
        spacing_mm: of the volume, per axis.
        iou: two masks of less are never one object.

    Raises:
        UsageError: MS-U372 there is no sample.
    """
    if not samples:
        raise UsageError("MS-U372", "no sample to compare", mend="give one sample at least, better ten")
    seen, spacing = [seen_in(sample) for sample in samples], np.asarray(spacing_mm, float)
    members = np.array(associate(seen, iou), np.int64).reshape(-1, len(samples))
    scores = np.array([_total(row, samples) for row in members])
    members = members[np.argsort(-scores, kind="stable")]
    parts = [_part(row, seen, samples, spacing) for row in members]
    columns = {name: np.array([part[name] for part in parts], float) for name in _NUMBERS}
    boxes = np.array([part["box"] for part in parts], np.float32).reshape(-1, 6)
    objects = Instances(
        torch.from_numpy(boxes),
        torch.tensor([part["score"] for part in parts], dtype=torch.float32),
        torch.tensor([part["label"] for part in parts], dtype=torch.int64),
        [part["crop"] for part in parts],
    )
    return Agreement(
        instances=objects,
        box_sd_mm=np.array([part["box_sd_mm"] for part in parts], float).reshape(-1, 6),
        entropy=[part["entropy"] for part in parts],
        members=members,
        **columns,
    )


def entropy_map(found: Agreement, shape: Sequence[int]) -> np.ndarray:
    """(D, H, W) float32: the greatest entropy / ln 2 of any object in each voxel, 0 where there is none."""
    out = np.zeros(tuple(shape), np.float32)
    for crop in found.entropy:
        here = out[tuple(slice(a, b) for a, b in zip(crop.low, crop.high, strict=True))]
        np.maximum(here, crop.probability.numpy(), out=here)
    return out


_NUMBERS = ("frequency", "score_mean", "score_sd", "volume_mean_mm3", "volume_sd_mm3", "mask_iou", "class_share")


def _total(row: np.ndarray, samples: Sequence[Instances]) -> float:
    return sum(float(s.scores[n]) for s, n in zip(samples, row.tolist(), strict=True) if n >= 0) / len(row)


def _part(row: np.ndarray, seen: list[list[Seen]], samples: Sequence[Instances], spacing: np.ndarray) -> dict:
    """All that is said of one object."""
    there = [(t, n) for t, n in enumerate(row.tolist()) if n >= 0]
    ones = [seen[t][n] for t, n in there]
    scores = np.array([float(samples[t].scores[n]) for t, n in there])
    boxes = np.stack([samples[t].boxes[n].double().numpy() for t, n in there])
    volumes = np.array([float((one.crop.probability >= INSIDE).sum()) for one in ones]) * spacing.prod()
    together = Object.of(ones)
    mean = together.mean()
    return {
        "box": boxes.mean(0),
        "box_sd_mm": _sd(boxes) * np.tile(spacing, 2),
        "score": scores.sum() / len(row),
        "score_mean": scores.mean(),
        "score_sd": _sd(scores),
        "label": mean.label,
        "class_share": np.mean([one.label == mean.label for one in ones]),
        "crop": mean.crop,
        "entropy": as_crop(together.low, _entropy(together.total / len(row))),
        "mask_iou": crop_iou_matrix([mean.voxels], [one.voxels for one in ones]).mean().item(),
        "volume_mean_mm3": volumes.mean(),
        "volume_sd_mm3": _sd(volumes),
        "frequency": len(ones) / len(row),
    }


def _sd(values: np.ndarray) -> np.ndarray:
    return values.std(0) if len(values) > 1 else np.full(values.shape[1:], np.nan)


def _entropy(p: np.ndarray) -> np.ndarray:
    """Binary entropy in bits, 0 for 0 and 1."""
    p = np.clip(p, 0.0, 1.0)
    q = 1 - p
    return 0.0 - (p * np.log2(np.where(p > 0, p, 1)) + q * np.log2(np.where(q > 0, q, 1)))
