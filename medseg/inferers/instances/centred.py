"""Every instance seen once more, in a tile that has it in the middle.

A network's mask of an instance depends on what it sees around it, and so on where the tile happens to lie: between two
tilings of a volume some masks differ by a twentieth of their voxels or more, however their tiles are weighed. So tiles
only find the instances. What is said of one then comes from a tile whose place follows from the instance alone: its box's
middle is the tile's, as nearly as the volume's ends and a lattice of `step` voxels allow. A small step puts instances
nearer to the middle, a large one lets neighbours share a tile.

An instance that no such tile sees whole, or sees as the same one, stays as the tiles saw it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from medseg.inferers.instances.association import matched, seen_in
from medseg.inferers.instances.found import Instances, joined, pick
from medseg.inferers.instances.links import LINK_IOU
from medseg.inferers.instances.pieces import is_cut, tight
from medseg.inferers.instances.tiles import Tile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def places(
    found: Instances, shape: Sequence[int], size: Sequence[int], *, stride: Sequence[int], step: int
) -> list[Tile]:
    """For each instance the tile in whose middle its box lies, moved into the volume where it would reach beyond.

    Args:
        found: instances in voxels of the volume.
        shape: (D, H, W) of the volume.
        size: of a tile; where the volume is smaller, so is the tile.
        stride: of the network: sizes and places of tiles are multiples of it.
        step: of the lattice on which tiles begin, rounded up to multiples of the stride.
    """
    return [
        _tile([_along(*numbers, step) for numbers in zip(box[:3], box[3:], shape, size, stride, strict=True)])
        for box in found.boxes.tolist()
    ]


def centred(found: Instances, around: Sequence[Tile], look: Callable[[Tile], Instances]) -> Instances:
    """Box, score, class and mask of each instance as the tile around it has them, by falling score.

    Args:
        found: what tiles found in the volume, on the CPU.
        around: the tile of each, see `places`.
        look: what the network finds in a tile, in voxels of the volume, on the CPU.
    """
    parts = []
    for tile in dict.fromkeys(around):
        mine = pick(found, [n for n, place in enumerate(around) if place == tile])
        parts.append(_as_seen(mine, _whole_ones(look(tile), tile)))
    everything = joined(parts)
    return pick(everything, torch.argsort(-everything.scores, stable=True))


def _along(start: float, stop: float, n: int, size: int, stride: int, step: int) -> tuple[int, int, int, int]:
    """Along one axis: low and high of the tile, and whether it ends inside the volume there, 0 or 1."""
    size, step = min(size, -(-n // stride) * stride), -(-step // stride) * stride
    last = max(0, -(-(n - size) // stride) * stride)
    low = min(max(0, round(((start + stop) / 2 - size / 2) / step) * step), last)
    return low, low + size, int(low > 0), int(low < last)


def _tile(axes: Sequence[tuple[int, int, int, int]]) -> Tile:
    low, high, ramp_low, ramp_high = zip(*axes, strict=True)
    return Tile(low, high, low, high, ramp_low, ramp_high)


def _whole_ones(seen: Instances, tile: Tile) -> Instances:
    """Those that do not reach a face which the tile has inside the volume."""
    extents = [(low, low + mask.shape) for low, mask in map(tight, seen.masks)]
    return pick(
        seen, [n for n, (low, high) in enumerate(extents) if (high > low).all() and not is_cut(tile, low, high)]
    )


def _as_seen(found: Instances, seen: Instances) -> Instances:
    """In place of each instance found the one seen that is the same, if there is one."""
    place = matched(seen_in(found), seen_in(seen), LINK_IOU)
    both = joined([found, seen])
    return pick(both, [len(found) + k if k >= 0 else n for n, k in enumerate(place)])
