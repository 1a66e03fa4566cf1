"""Tiles over a volume for a network that finds instances, and the network over each of them.

Tiles are all of one size and begin at multiples of the network's stride, so that the network sees every voxel at the
same place of its pooling grid in whichever tile. Where a tile ends inside the volume it sees an instance only in part;
what of that is believed is weighed here and decided in merge.py:

- weight: 1 inside, falling linearly to 0 over the overlap towards each face inside the volume. Where two tiles overlap
  by just that, their weights add up to 1, so that nothing jumps where a tile ends.
- core: the part of a tile up to the middle of its overlaps; the cores of all tiles fill the volume without overlap.

Worked example, one axis: 100 voxels, tiles of 48, overlap 16, stride 8: the tiles begin at 0, 32 and 56 (the last one is
pulled back to the multiple of 8 at which it still reaches the end), the cores are [0, 40), [40, 68) and [68, 100).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad

from medseg.errors import UsageError
from medseg.inferers.instances.found import clipped, moved, on_cpu
from medseg.inferers.instances.stuff import in_core

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from medseg.inferers.instances.found import Instances

Triple = tuple[int, int, int]
# The smallest weight of a voxel that a tile covers: where no other tile does, it decides alone.
LEAST_WEIGHT = 1e-3


@dataclass(frozen=True)
class Tile:
    """A block of voxels that a network sees at once.

    Args:
        low: first voxel in the volume, per axis.
        high: one past the last; beyond the volume's end where that is no multiple of the stride.
        core_low: first voxel of the core.
        core_high: one past its last.
        ramp_low: over how many voxels the weight rises behind the lower face, at least 1; 0 where the volume begins
            there, so that nothing is cut off.
        ramp_high: over how many it falls before the upper face.
    """

    low: Triple
    high: Triple
    core_low: Triple
    core_high: Triple
    ramp_low: Triple = (0, 0, 0)
    ramp_high: Triple = (0, 0, 0)


@dataclass(frozen=True, eq=False)
class View:
    """What a network found in one tile.

    Args:
        tile: the tile.
        found: its instances, in voxels of the volume.
        stuff: uint8 of the tile's core alone, see stuff.py; None where the network knows none.
    """

    tile: Tile
    found: Instances
    stuff: Tensor | None = None


def whole(shape: Sequence[int]) -> Tile:
    """One tile that is all of a volume."""
    d, h, w = (int(n) for n in shape)
    return Tile((0, 0, 0), (d, h, w), (0, 0, 0), (d, h, w))


def tiles(
    shape: Sequence[int],
    size: Sequence[int] | int,
    overlap: Sequence[int] | int,
    *,
    stride: Sequence[int] | int = 1,
    shift: Sequence[int] | int = 0,
) -> list[Tile]:
    """Lay tiles over a volume.

    Args:
        shape: (D, H, W).
        size: of a tile in voxels, per axis or one for all; where the volume is smaller, so are the tiles.
        overlap: voxels that neighbours have in common at least; the largest common size of an instance is a good one.
        stride: of the network: sizes, places and steps of tiles are multiples of it.
        shift: by how many voxels the second tile along an axis begins earlier than it would; a result should not
            depend on it.

    Raises:
        UsageError: MS-U371 numbers that do not fit each other.
    """
    axes = [
        _along(*(int(x) for x in numbers))
        for numbers in zip(_three(shape), _three(size), _three(overlap), _three(stride), _three(shift), strict=True)
    ]
    found = []
    for parts in itertools.product(*axes):
        low, high, core_low, core_high, ramp_low, ramp_high = zip(*parts, strict=True)
        found.append(Tile(low, high, core_low, core_high, ramp_low, ramp_high))
    return found


def views(image: Tensor, network: Callable[[Tensor], Instances], over: Sequence[Tile]) -> Iterator[View]:
    """The network over each tile.

    Args:
        image: (1, C, D, H, W).
        network: takes (1, C, d, h, w) and returns instances in voxels of that block.
        over: tiles; see `tiles`.

    Yields:
        A view for each tile: instances cut to the volume, in the computer's memory, masks in float16.
    """
    for tile in over:
        found = network(block(image, tile))
        yield View(tile, in_volume(found, tile, image.shape[2:]), in_core(found.stuff, tile))


def sampled_views(
    image: Tensor, network: Callable[[Tensor], Sequence[Instances]], over: Sequence[Tile]
) -> list[list[View]]:
    """As `views`, for a network that returns several samples of a tile: T lists of views, one a sample.

    Only those of the first sample say what stuff there is.
    """
    samples: list[list[View]] = []
    for tile in over:
        drawn = network(block(image, tile))
        samples = samples or [[] for _ in drawn]
        for n, (sample, found) in enumerate(zip(samples, drawn, strict=True)):
            stuff = None if n else in_core(found.stuff, tile)
            sample.append(View(tile, in_volume(found, tile, image.shape[2:]), stuff))
    return samples


def block(image: Tensor, tile: Tile) -> Tensor:
    """A tile's voxels, (1, C, d, h, w) of (1, C, D, H, W), its edge repeated beyond the volume's end."""
    shape = image.shape[2:]
    inner = tuple(slice(a, min(b, n)) for a, b, n in zip(tile.low, tile.high, shape, strict=True))
    beyond = [max(0, b - n) for b, n in zip(tile.high, shape, strict=True)]
    voxels = image[(slice(None), slice(None), *inner)]
    return (
        pad(voxels, [x for after in reversed(beyond) for x in (0, after)], mode="replicate") if any(beyond) else voxels
    )


def in_volume(found: Instances, tile: Tile, shape: Sequence[int]) -> Instances:
    """Instances of a tile in voxels of the volume, cut to it, in the computer's memory, masks in float16."""
    return clipped(moved(on_cpu(found), tile.low), shape)


def weights(tile: Tile, axis: int, low: int, high: int) -> Tensor:
    """The tile's weights of the voxels low <= i < high along an axis, (high - low,) float32; 0 outside the tile.

    The weight of a voxel is the product of those along the three axes.
    """
    return weight_at(tile, axis, torch.arange(low, high, dtype=torch.float32) + 0.5)


def weight_at(tile: Tile, axis: int, place: Tensor) -> Tensor:
    """The tile's weights along an axis at places given in voxel edges."""
    before, after = place - tile.low[axis], tile.high[axis] - place
    weight = torch.ones_like(place)
    if tile.ramp_low[axis]:
        weight = torch.minimum(weight, before / tile.ramp_low[axis])
    if tile.ramp_high[axis]:
        weight = torch.minimum(weight, after / tile.ramp_high[axis])
    return torch.where((before > 0) & (after > 0), weight.clamp(min=LEAST_WEIGHT), 0.0)


def _along(n: int, size: int, overlap: int, stride: int, shift: int) -> list[tuple[int, int, int, int, int, int]]:
    """Along one axis, for each tile: low, high, core_low, core_high, ramp_low, ramp_high."""
    if stride < 1 or size < stride or size % stride or not 0 <= overlap <= size - stride or shift % stride:
        what = f"tiles of {size} voxels with overlap {overlap}, stride {stride} and shift {shift}"
        mend = "give a size and a shift that are multiples of the network's stride, and an overlap that leaves one"
        raise UsageError("MS-U371", what, mend=mend)
    size = min(size, -(-n // stride) * stride)
    overlap = min(overlap, size - stride)
    step, last = (size - overlap) // stride * stride, max(0, -(-(n - size) // stride) * stride)
    between = range(-(shift % step), last, step)
    starts = sorted({0, last, *(start for start in between if start > 0)})
    edges = [0, *((a + size + b) // 2 for a, b in itertools.pairwise(starts)), n]
    ramp = max(1, overlap)
    return [
        (a, a + size, low, high, ramp if a else 0, ramp if a != last else 0)
        for a, low, high in zip(starts, edges, edges[1:], strict=False)
    ]


def _three(numbers: Sequence[int] | int) -> tuple[int, ...]:
    return (numbers,) * 3 if isinstance(numbers, int) else tuple(numbers)
