"""What the samples say of each structure, in numbers that a reader of a table understands."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan, nan
from typing import TYPE_CHECKING

import cc3d
import numpy as np

from medseg.metrics.regions import border

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medseg.bundle.uncertainty import Calibration, Flags
    from medseg.labels import Label, LabelTable
    from medseg.volume import Volume

LOW = "low confidence"
DETACHED = "in several pieces"
ACROSS = "on the wrong side of the midline"

#: SNOMED CT: left, right.
_SIDES = {"7771000": -1, "24028007": 1}


@dataclass(frozen=True)
class Doubt:
    """One structure in the samples; NaN where there is nothing to say.

    Args:
        volume_sd_ml: standard deviation of its volume over the samples, mL.
        entropy_inside: mean normalised entropy of its voxels, in [0, 1].
        entropy_boundary: the same of the voxels that share a face with another label.
        agreement: Dice of two samples, pooled over all pairs, in [0, 1].
        predicted_dice: the Dice to expect of it, from the agreement and the bundle's calibration.
    """

    volume_sd_ml: float = nan
    entropy_inside: float = nan
    entropy_boundary: float = nan
    agreement: float = nan
    predicted_dice: float = nan


def agreement(votes: np.ndarray, samples: int) -> float:
    """Dice of two samples, pooled over all pairs: sum n (n - 1) / ((T - 1) sum n) of the votes n of each voxel.

    Of T label maps each pair (t, u) has 2 |A_t A_u| / (|A_t| + |A_u|) (Roy et al., NeuroImage 2019). Numerators and
    denominators of all pairs are summed before they are divided, so that counts of votes suffice: a voxel with n votes
    lies in n (n - 1) / 2 intersections, and every sample in T - 1 pairs.

    Args:
        votes: how many samples give each voxel to the structure, any shape.
        samples: T.

    Returns:
        In [0, 1]; NaN where no sample has the structure, and for a single sample.
    """
    if samples < 2:
        return nan
    # Voxels without a vote count for nothing, and a structure has few others: bincount makes 8 bytes of each.
    counts = np.bincount(votes[votes > 0], minlength=samples + 1).astype(np.float64)
    n = np.arange(len(counts))
    total = float((n * counts).sum())
    return float((n * (n - 1) * counts).sum()) / ((samples - 1) * total) if total else nan


def doubts(
    segmentation: Volume,
    entropy: np.ndarray,
    votes: Mapping[str, np.ndarray],
    volumes_ml: Mapping[str, Sequence[float]],
    table: LabelTable,
    calibration: Calibration,
) -> dict[str, Doubt]:
    """Doubt by structure.

    Args:
        segmentation: (I, J, K) label map.
        entropy: (I, J, K) normalised entropy on its grid.
        votes: structure -> votes of its voxels, on any grid.
        volumes_ml: structure -> its volume in each sample, mL.
        table: the structures.
        calibration: of the method.
    """
    edge = border(segmentation.array)
    found = {}
    for label in table:
        sizes = np.asarray(volumes_ml.get(label.name, ()), np.float64)
        inside = np.isin(segmentation.array, label.region) if label.region else segmentation.array == label.value
        agreed = agreement(votes[label.name], len(sizes)) if label.name in votes and len(sizes) > 1 else nan
        fit = calibration.dice.get(label.name)
        expected = nan if fit is None or isnan(agreed) else min(1.0, max(0.0, fit[0] + fit[1] * agreed))
        found[label.name] = Doubt(
            float(sizes.std(ddof=1)) if len(sizes) > 1 else nan,
            _mean(entropy, inside),
            _mean(entropy, inside & edge),
            agreed,
            expected,
        )
    return found


def flags(
    segmentation: Volume,
    table: LabelTable,
    doubt: Mapping[str, Doubt],
    limits: Flags,
    lowest: Mapping[str, float] | None = None,
) -> dict[str, list[str]]:
    """Structure -> what deserves a second look.

    Args:
        segmentation: (I, J, K) label map.
        table: the structures.
        doubt: what the samples say of each.
        limits: the bundle's thresholds.
        lowest: structure -> the agreement below which confidence is low, for the method in use.
    """
    across = wrong_side(segmentation, table) if limits.across_midline_share is not None else {}
    found: dict[str, list[str]] = {}
    for label in table:
        said = []
        told = doubt.get(label.name, Doubt())
        unlike = told.agreement < (lowest or {}).get(label.name, 0.0)
        if unlike or (limits.low_dice is not None and told.predicted_dice < limits.low_dice):
            said.append(LOW)
        if limits.detached_share is not None and _detached(segmentation, label) > limits.detached_share:
            said.append(DETACHED)
        if limits.across_midline_share is not None and across.get(label.name, 0.0) > limits.across_midline_share:
            said.append(ACROSS)
        found[label.name] = said
    return found


def wrong_side(segmentation: Volume, table: LabelTable) -> dict[str, float]:
    """Share of each sided structure that lies across the midline.

    The midline is the sagittal plane halfway between the mean positions of all left and all right structures of the
    table; where left ones lie to the right of right ones altogether, all of each is on the wrong side.
    """
    sides = {label.name: side for label in table if (side := _side(label))}
    if set(sides.values()) != {-1, 1}:
        return {}
    places = {}
    for name in sides:
        voxels = np.argwhere(segmentation.array == table.by_name[name].value)
        if len(voxels):
            places[name] = voxels @ segmentation.affine[0, :3] + segmentation.affine[0, 3]  # RAS: x grows to the right
    left = [x.mean() for name, x in places.items() if sides[name] < 0]
    right = [x.mean() for name, x in places.items() if sides[name] > 0]
    if not left or not right:
        return {}
    if np.mean(left) > np.mean(right):
        return dict.fromkeys(places, 1.0)
    middle = (np.mean(left) + np.mean(right)) / 2
    return {name: float(np.mean((x - middle) * sides[name] < 0)) for name, x in places.items()}


def _side(label: Label) -> int:
    """-1 left, 1 right, 0 neither: by its coded modifier, else by the first or last word of its name, where paired."""
    if label.modifier is not None and label.modifier.value in _SIDES:
        return _SIDES[label.modifier.value]
    words = label.name.lower().replace("_", " ").split()
    if label.mirror is None or not words:
        return 0
    return next((side for word, side in (("left", -1), ("right", 1)) if word in (words[0], words[-1])), 0)


def _detached(segmentation: Volume, label: Label) -> float:
    """Share of a structure outside its largest piece (26-connected)."""
    array = segmentation.array
    mask = np.isin(array, label.region) if label.region else array == label.value
    if not mask.any():
        return 0.0
    where = tuple(slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(mask))
    pieces = cc3d.connected_components(np.asfortranarray(mask[where]), connectivity=26)
    sizes = np.bincount(pieces.ravel(order="K"))[1:]
    return 1.0 - float(sizes.max()) / float(sizes.sum())


def _mean(values: np.ndarray, where: np.ndarray) -> float:
    chosen = values[where]
    return float(chosen.mean(dtype=np.float64)) if chosen.size else nan
