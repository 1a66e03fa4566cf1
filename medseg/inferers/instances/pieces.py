"""One instance as one tile saw it, and how far two of them are the same where both tiles could see.

Two tiles see an instance alike only where they overlap, so their masks are compared there and nowhere else: of an
instance that is larger than the overlap both have the same part of it there, and two that touch have nothing in common.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from medseg.inferers.instances.found import INSIDE
from medseg.inferers.instances.tiles import weight_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.inferers.instances.found import MaskCrop
    from medseg.inferers.instances.tiles import Tile, View

# A mask counts as cut where it comes this near to a face that its tile has inside the volume, voxels.
NEAR_A_FACE = 2


@dataclass(frozen=True, eq=False)
class Piece:
    """What one tile saw of one instance.

    Args:
        view: which tile, as an index.
        score: of the detection.
        label: its class.
        box: (6,) voxel edges.
        weight: the tile's weight at the box's centre.
        cut: whether the mask reaches a face of the tile that lies inside the volume.
        low: first voxel of the mask's own bounding box.
        mask: (d, h, w) bool in that box.
        crop: the probabilities.
    """

    view: int
    score: float
    label: int
    box: np.ndarray
    weight: float
    cut: bool
    low: np.ndarray
    mask: np.ndarray
    crop: MaskCrop

    @property
    def high(self) -> np.ndarray:
        """One past the last voxel of the mask's bounding box."""
        return self.low + self.mask.shape


@dataclass(frozen=True)
class Common:
    """Two pieces where both their tiles could see, in voxels.

    Args:
        first: of the first one's mask.
        second: of the second one's.
        both: of either.
    """

    first: int
    second: int
    both: int

    @property
    def iou(self) -> float:
        """Intersection over union."""
        return self.both / max(1, self.first + self.second - self.both)

    @property
    def iom(self) -> float:
        """Intersection over the smaller one."""
        return self.both / max(1, min(self.first, self.second))


def pieces_of(views: Sequence[View]) -> list[Piece]:
    """Every instance of every view but those whose mask is nowhere above 0: there is nothing of them."""
    found = []
    for number, view in enumerate(views):
        centres = (view.found.boxes[:, :3] + view.found.boxes[:, 3:]) / 2
        weight = torch.stack([weight_at(view.tile, axis, centres[:, axis]) for axis in range(3)]).prod(0)
        each = (view.found.scores, view.found.classes, weight)
        rows = zip(*(values.tolist() for values in each), view.found.boxes.numpy(), view.found.masks, strict=True)
        for score, label, w, box, crop in rows:
            low, mask = tight(crop)
            if mask.size:
                cut = is_cut(view.tile, low, low + mask.shape)
                found.append(Piece(number, score, label, box, w, cut, low, mask, crop))
    return found


def is_cut(tile: Tile, low: np.ndarray, high: np.ndarray) -> bool:
    """Whether a block of voxels reaches a face that the tile has inside the volume."""
    below = (np.array(tile.ramp_low) > 0) & (low - tile.low < NEAR_A_FACE)
    above = (np.array(tile.ramp_high) > 0) & (tile.high - high < NEAR_A_FACE)
    return bool((below | above).any())


def tight(crop: MaskCrop, inside: float = INSIDE) -> tuple[np.ndarray, np.ndarray]:
    """First voxel and (d, h, w) bool of a mask's bounding box.

    The mask holds the voxels of at least `inside`, or of at least half of the highest probability where that is lower:
    an unsure mask still lies somewhere.
    """
    values = crop.probability.numpy()
    top = float(values.max()) if values.size else 0.0
    if top <= 0:
        return np.array(crop.low), np.zeros((0, 0, 0), bool)
    mask = values >= min(inside, top / 2)
    spans = [np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    start, stop = np.array([s[0] for s in spans]), np.array([s[-1] + 1 for s in spans])
    return start + crop.low, mask[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]


def common(a: Piece, b: Piece, low: np.ndarray, high: np.ndarray) -> Common:
    """Compare two pieces within the voxels low <= i < high, those that both tiles hold."""
    start, stop = np.maximum(np.maximum(a.low, b.low), low), np.minimum(np.minimum(a.high, b.high), high)
    both = int((part(a, start, stop) & part(b, start, stop)).sum()) if (start < stop).all() else 0
    return Common(int(part(a, low, high).sum()), int(part(b, low, high).sum()), both)


def part(piece: Piece, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The piece's mask in its voxels among low <= i < high."""
    spans = zip(piece.low.tolist(), piece.mask.shape, low.tolist(), high.tolist(), strict=True)
    return piece.mask[tuple(slice(max(0, a - at), max(0, min(n, b - at))) for at, n, a, b in spans)]


def shared_voxels(low_a: np.ndarray, a: np.ndarray, low_b: np.ndarray, b: np.ndarray) -> int:
    """Voxels that two masks have in common, each bool in its own block."""
    start, stop = np.maximum(low_a, low_b), np.minimum(low_a + a.shape, low_b + b.shape)
    if (start >= stop).any():
        return 0
    of_a, of_b = (
        mask[tuple(slice(s, e) for s, e in zip((start - low).tolist(), (stop - low).tolist(), strict=True))]
        for low, mask in ((low_a, a), (low_b, b))
    )
    return int((of_a & of_b).sum())
