"""Which instances of several samples of one volume are one object.

Decided against a consensus: sample after sample, the Hungarian method (Kuhn, 1955) matches its instances to the objects
so far by the IoU of the masks, those of equal classes first, and what matches nothing is an object of its own. An
object's mask is the mean of its instances' probabilities. Then every sample is matched once more, against the finished
consensus, so that the first samples have no more say than the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from medseg.boxes.crops import Crop, crop_iou_matrix
from medseg.inferers.instances.found import MaskCrop
from medseg.inferers.instances.pieces import tight

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.inferers.instances.found import Instances


@dataclass(frozen=True, eq=False)
class Seen:
    """An instance of a sample, or the consensus of several.

    Args:
        voxels: its mask in the mask's bounding box.
        label: class.
        crop: probabilities.
    """

    voxels: Crop
    label: int
    crop: MaskCrop


@dataclass(eq=False)
class Object:
    """What several samples say of one object: it grows by each.

    Args:
        low: first voxel of the block that holds all its instances.
        total: (d, h, w) float32 sum of their probabilities.
        labels: their classes.
    """

    low: np.ndarray
    total: np.ndarray
    labels: list[int]

    @classmethod
    def of(cls, ones: Sequence[Seen]) -> Object:
        """The object that one or more instances are."""
        first = ones[0].crop
        made = cls(np.array(first.low), np.zeros(tuple(first.probability.shape), np.float32), [])
        for one in ones:
            made.add(one)
        return made

    def add(self, one: Seen) -> None:
        """Another sample's instance."""
        high = self.low + self.total.shape
        low, top = np.minimum(self.low, one.crop.low), np.maximum(high, one.crop.high)
        if (low < self.low).any() or (top > high).any():
            wider = np.zeros(tuple(top - low), np.float32)
            wider[_block(self.low - low, self.total.shape)] = self.total
            self.low, self.total = low, wider
        values = one.crop.probability.numpy()
        self.total[_block(np.subtract(one.crop.low, self.low), values.shape)] += values
        self.labels.append(one.label)

    def mean(self) -> Seen:
        """The consensus: mean probabilities, the class of most votes (of equal ones the lowest)."""
        label = max(set(self.labels), key=lambda c: (self.labels.count(c), -c))
        return seen(as_crop(self.low, self.total / len(self.labels)), label)


def seen(crop: MaskCrop, label: int) -> Seen:
    """An instance with its mask."""
    low, mask = tight(crop)
    return Seen(Crop((int(low[0]), int(low[1]), int(low[2])), torch.from_numpy(mask)), label, crop)


def as_crop(low: np.ndarray, values: np.ndarray) -> MaskCrop:
    """Values of a block as a crop in float16."""
    return MaskCrop((int(low[0]), int(low[1]), int(low[2])), torch.from_numpy(values.astype(np.float16)))


def seen_in(sample: Instances) -> list[Seen]:
    """All instances of a sample."""
    return [seen(crop, label) for crop, label in zip(sample.masks, sample.classes.tolist(), strict=True)]


def associate(samples: Sequence[Sequence[Seen]], iou: float) -> list[list[int]]:
    """Find the objects of T samples.

    Args:
        samples: T sets of instances of one volume.
        iou: two masks of less are never one object.

    Returns:
        For each object T numbers: which instance of each sample it is, -1 for none. Every instance is of one object.
    """
    objects: list[Object] = []
    for sample in samples:
        _grown(objects, sample, iou)
    consensus, late = [one.mean() for one in objects], []
    members = [[-1] * len(samples) for _ in objects]
    for t, sample in enumerate(samples):
        place = matched(sample, consensus, iou)
        rest = [n for n, k in enumerate(place) if k < 0]
        for n, k in zip(rest, _grown(late, [sample[n] for n in rest], iou), strict=True):
            place[n] = len(objects) + k  # the consensus has drifted away from it: an object of its own after all
        members += [[-1] * len(samples) for _ in range(len(objects) + len(late) - len(members))]
        for n, k in enumerate(place):
            members[k][t] = n
    return [row for row in members if max(row) >= 0]


def matched(sample: Sequence[Seen], consensus: Sequence[Seen], iou: float) -> list[int]:
    """For each instance the object that it is matched to, or -1: the matching of the greatest sum of IoU."""
    place = [-1] * len(sample)
    if not sample or not consensus:
        return place
    alike = crop_iou_matrix([one.voxels for one in sample], [one.voxels for one in consensus]).double().numpy()
    same = np.array([one.label for one in sample])[:, None] == np.array([one.label for one in consensus])
    gain = np.where((alike > 0) & (alike >= iou), alike + same, 0.0)
    for n, k in zip(*linear_sum_assignment(gain, maximize=True), strict=True):
        if gain[n, k] > 0:
            place[int(n)] = int(k)
    return place


def _grown(objects: list[Object], sample: Sequence[Seen], iou: float) -> list[int]:
    """Add a sample to the objects; which object each of its instances is."""
    place = matched(sample, [one.mean() for one in objects], iou)
    for n, k in enumerate(place):
        if k >= 0:
            objects[k].add(sample[n])
        else:
            place[n] = len(objects)
            objects.append(Object.of([sample[n]]))
    return place


def _block(low: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(int(a), int(a) + n) for a, n in zip(low, shape, strict=True))
