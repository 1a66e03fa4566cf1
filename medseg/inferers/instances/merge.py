"""From what each tile saw to the instances of the volume.

The pieces of an instance are found (links.py) and become one:

- mask: the mean of the tiles' probabilities in each voxel, by the tiles' weights there (tiles.py). A tile that saw the
  instance and says nothing of a voxel that it holds says 0.
- box: the mean of the boxes of the tiles that saw all of it, by weight and score (weighted box clustering, Jaeger et
  al., ML4H 2020); where none did, the box around the mask.
- score: sum(w s) / sum(w) over the tiles that saw it and those that hold its box and did not see it, which have s = 0;
  w is the tile's weight at the box's centre. So it changes continuously with the places of the tiles.
- class: of the greatest sum(w s).

Of pieces that are cut off and belong to nothing, those stay that lie mostly in the cores of their own tiles: each voxel
is in the core of one tile, and that tile decides (centre ownership, voxel by voxel). Last, of two instances that no tile
saw as two and that nearly coincide the surer one stays.

The same does for views of one tile by several networks, or mirror images of it: none is cut off then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from medseg.inferers.instances.found import Instances, MaskCrop, nothing, pick
from medseg.inferers.instances.links import groups_of, touching
from medseg.inferers.instances.pieces import pieces_of, shared_voxels, tight
from medseg.inferers.instances.tiles import weight_at, weights

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from medseg.inferers.instances.pieces import Piece
    from medseg.inferers.instances.tiles import Tile, View

# Two instances that no tile told apart are one from here on.
SAME_IOU = 0.5
SAME_IOM = 0.7
# Share of a cut piece's voxels that must lie in cores of its tiles.
OWNED = 0.5


@dataclass(frozen=True, eq=False)
class Whole:
    """An instance made of its pieces.

    Args:
        views: that saw it.
        score: damped mean.
        label: class.
        box: (6,) voxel edges.
        crop: mean probabilities.
        low: first voxel of the mask's bounding box.
        mask: (d, h, w) bool in it.
    """

    views: frozenset[int]
    score: float
    label: int
    box: np.ndarray
    crop: MaskCrop
    low: np.ndarray
    mask: np.ndarray


def merge(views: Iterable[View]) -> Instances:
    """Unite what overlapping tiles, or several networks, saw of one volume.

    Args:
        views: instances of each tile in voxels of the volume, on the CPU; see `tiles.views`. They are best given as
            the network sees them, low scores included, and the result cut at a score afterwards: what one tile sees
            at 0.51 and the next at 0.49 is then seen once at 0.5.

    Returns:
        Instances by falling score, masks in float16. Nothing limits their number.
    """
    seen = list(views)
    pieces = pieces_of(seen)
    wholes = [
        made for group in groups_of(pieces, seen) if (made := _whole([pieces[i] for i in group], seen)) is not None
    ]
    return _as_instances(_told_apart(wholes))


def at_least(found: Instances, score: float) -> Instances:
    """Those of at least a score."""
    return pick(found, found.scores >= score)


def _whole(group: list[Piece], views: Sequence[View]) -> Whole | None:
    crop = _mean_mask(group, views)
    low, mask = tight(crop)
    complete = [piece for piece in group if not piece.cut]
    if not mask.size or (not complete and _owned(low, mask, {views[p.view].tile for p in group}) < OWNED):
        return None
    if complete:
        strength = np.array([max(p.weight * p.score, 1e-12) for p in complete])
        box = (strength[:, None] * np.stack([p.box for p in complete])).sum(0) / strength.sum()
    else:
        box = np.concatenate([low, low + mask.shape]).astype(np.float32)
    by_view: dict[int, Piece] = {}
    for piece in sorted(group, key=lambda p: p.weight * p.score):
        by_view[piece.view] = piece
    voices: dict[int, float] = {}
    for piece in by_view.values():
        voices[piece.label] = voices.get(piece.label, 0.0) + piece.weight * piece.score
    label = max(voices, key=lambda c: (voices[c], -c))
    total = sum(p.weight for p in by_view.values()) + _missing(box, set(by_view), views)
    return Whole(frozenset(by_view), voices[label] / total if total else 0.0, label, box, crop, low, mask)


def _missing(box: np.ndarray, seen_by: set[int], views: Sequence[View]) -> float:
    """Sum of the weights of the views that hold a box and did not see it."""
    middle = torch.from_numpy((box[:3] + box[3:]) / 2).float()
    holds = np.all([v.tile.low for v in views] <= box[:3], 1) & np.all([v.tile.high for v in views] >= box[3:], 1)
    blind = [views[n].tile for n in np.flatnonzero(holds).tolist() if n not in seen_by]
    return sum(float(torch.stack([weight_at(tile, axis, middle[axis]) for axis in range(3)]).prod()) for tile in blind)


def _mean_mask(group: list[Piece], views: Sequence[View]) -> MaskCrop:
    if len(group) == 1:
        return group[0].crop
    low = np.min([p.crop.low for p in group], axis=0)
    high = np.max([p.crop.high for p in group], axis=0)
    total, weight = torch.zeros(*(high - low).tolist()), torch.zeros(*(high - low).tolist())
    for number in sorted({p.view for p in group}):
        tile = views[number].tile
        start, stop = np.maximum(low, tile.low), np.minimum(high, tile.high)
        crops = [p.crop for p in group if p.view == number]
        block = torch.zeros(*(stop - start).tolist())
        for crop in crops:  # of several pieces in one tile the likelier one counts
            here = block[_slices(crop.low - start, crop.high - start)]
            torch.maximum(here, crop.probability.float(), out=here)
        x, y, z = (weights(tile, axis, int(start[axis]), int(stop[axis])) for axis in range(3))
        share = x[:, None, None] * y[:, None] * z
        to = _slices(start - low, stop - low)
        weight[to] += share
        total[to] += share * block
    mean = total.div_(weight.clamp_(min=1e-12)).half()
    return MaskCrop((int(low[0]), int(low[1]), int(low[2])), mean)


def _owned(low: np.ndarray, mask: np.ndarray, over: set[Tile]) -> float:
    """Share of a mask's voxels in the cores of tiles."""
    inside = 0
    for tile in over:
        start = np.clip(np.array(tile.core_low) - low, 0, mask.shape)
        stop = np.clip(np.array(tile.core_high) - low, start, mask.shape)
        inside += np.count_nonzero(mask[_slices(start, stop)])
    return inside / np.count_nonzero(mask)


def _told_apart(wholes: list[Whole]) -> list[Whole]:
    """By falling score, without those that coincide with a surer one that no common view told from them."""
    order = sorted(wholes, key=lambda w: -w.score)
    if not order:
        return []
    low, high = np.stack([w.low for w in order]), np.stack([w.low + w.mask.shape for w in order])
    gone = set()
    for i, j in touching(low, high).tolist():  # i is the surer one
        if i in gone or j in gone or order[i].views & order[j].views:
            continue
        a, b = order[i], order[j]
        shared, one, other = shared_voxels(a.low, a.mask, b.low, b.mask), int(a.mask.sum()), int(b.mask.sum())
        if shared >= SAME_IOU * (one + other - shared) or shared >= SAME_IOM * min(one, other):
            gone.add(j)
    return [whole for n, whole in enumerate(order) if n not in gone]


def _as_instances(wholes: list[Whole]) -> Instances:
    if not wholes:
        return nothing()
    return Instances(
        torch.from_numpy(np.stack([w.box for w in wholes])).float(),
        torch.tensor([w.score for w in wholes]).float(),
        torch.tensor([w.label for w in wholes]),
        [w.crop for w in wholes],
    )


def _slices(start: Iterable[int], stop: Iterable[int]) -> tuple[slice, ...]:
    return tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
