"""A network seen through mirrors and at other sizes, and several networks as one.

Each of these is a network itself: it takes a tile (1, C, d, h, w) and returns instances in the tile's voxels, so they
are put inside one another and over tiles at will. An ensemble of two networks, each with a mirror image:

    Several([a, Flipped(a, (2,)), b, Flipped(b, (2,))])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from medseg.errors import UsageError
from medseg.inferers.instances.found import Instances, MaskCrop, clipped, on_cpu
from medseg.inferers.instances.merge import merge
from medseg.inferers.instances.paste import paste
from medseg.inferers.instances.tiles import View, whole

Network = Callable[[Tensor], Instances]


@dataclass(frozen=True)
class Flipped:
    """A network that is shown the mirror image; what it finds is turned back.

    Args:
        network: of the tile.
        axes: spatial axes, 0 to 2, that are turned around.
        classes: the class that takes the place of another, as of left and right; others stay.
    """

    network: Network
    axes: tuple[int, ...]
    classes: Mapping[int, int] = field(default_factory=dict)

    def __call__(self, tile: Tensor) -> Instances:
        """(1, C, d, h, w) -> instances in its voxels."""
        found = flipped(self.network(tile.flip([2 + axis for axis in self.axes])), self.axes, tile.shape[2:])
        classes = [self.classes.get(c, c) for c in found.classes.tolist()]
        swapped = torch.tensor(classes, dtype=torch.int64, device=found.classes.device)
        return Instances(found.boxes, found.scores, swapped, found.masks)


@dataclass(frozen=True)
class Scaled:
    """A network that is shown the tile at another size.

    Args:
        network: of the tile.
        factor: how many times as many voxels, per axis or one for all; the nearest number that the stride divides.
        stride: of the network.

    Raises:
        UsageError: MS-U372 a factor that is not positive.
    """

    network: Network
    factor: float | tuple[float, float, float]
    stride: tuple[int, int, int] = (1, 1, 1)

    def __post_init__(self) -> None:
        if min(self._factors) <= 0:
            raise UsageError("MS-U372", f"the factor is {self.factor}", mend="use numbers above 0, for example 1.25")

    @property
    def _factors(self) -> tuple[float, ...]:
        return tuple(self.factor) if isinstance(self.factor, Sequence) else (self.factor,) * 3

    def __call__(self, tile: Tensor) -> Instances:
        """(1, C, d, h, w) -> instances in its voxels."""
        shape = tuple(tile.shape[2:])
        size = tuple(
            max(1, round(n * f / step)) * step for n, f, step in zip(shape, self._factors, self.stride, strict=True)
        )
        found = self.network(interpolate(tile, size=size, mode="trilinear", align_corners=False))
        return resized(found, size, shape)


@dataclass(frozen=True)
class Several:
    """Several networks as one: what they found of an instance is united (see merge.py).

    An instance that only some of them found has a score as much lower. What stuff there is (classes without instances), the
    first alone says: put the network that sees the tile as it is there.

    Args:
        networks: at least one.

    Raises:
        UsageError: MS-U372 there is none.
    """

    networks: Sequence[Network]

    def __post_init__(self) -> None:
        if not self.networks:
            raise UsageError("MS-U372", "an ensemble of no networks", mend="give it one network at least")

    def __call__(self, tile: Tensor) -> Instances:
        """(1, C, d, h, w) -> instances in its voxels, the surest first."""
        everything, stuff = whole(tile.shape[2:]), None
        views = []
        for n, network in enumerate(self.networks):
            found = network(tile)
            views.append(View(everything, clipped(on_cpu(found), tile.shape[2:])))
            stuff = stuff if n else found.stuff
        return replace(merge(views), stuff=stuff)


@dataclass(frozen=True)
class Each:
    """Several networks, each for itself: what each finds is a sample (see `tiles.sampled_views`, agreement.py).

    Args:
        networks: in the order of the samples.
    """

    networks: Sequence[Network]

    def __call__(self, tile: Tensor) -> list[Instances]:
        """(1, C, d, h, w) -> for each network the instances in its voxels."""
        return [network(tile) for network in self.networks]


def flipped(found: Instances, axes: Sequence[int], shape: Sequence[int]) -> Instances:
    """Instances of an image of `shape` (D, H, W) as they lie in its mirror image."""
    boxes = found.boxes.clone()
    for axis in axes:
        boxes[:, axis], boxes[:, 3 + axis] = shape[axis] - found.boxes[:, 3 + axis], shape[axis] - found.boxes[:, axis]
    masks = []
    for mask in found.masks:
        low = [shape[a] - mask.high[a] if a in axes else mask.low[a] for a in range(3)]
        masks.append(MaskCrop((low[0], low[1], low[2]), mask.probability.flip(list(axes))))
    return Instances(boxes, found.scores, found.classes, masks)


def resized(found: Instances, size: Sequence[int], shape: Sequence[int]) -> Instances:
    """Instances of an image of `size` (D, H, W) as they lie in the same image of `shape`, masks interpolated."""
    ratio = torch.tensor([n / m for m, n in zip(size, shape, strict=True)] * 2, dtype=torch.float64)
    boxes = (found.boxes.double() * ratio.to(found.boxes.device)).to(found.boxes)
    masks = [_resized(mask, ratio, shape) for mask in found.masks]
    return Instances(boxes, found.scores, found.classes, masks)


def _resized(mask: MaskCrop, ratio: Tensor, shape: Sequence[int]) -> MaskCrop:
    box = torch.tensor([*mask.low, *mask.high], dtype=torch.float64) * ratio
    return paste(mask.probability, box.to(mask.probability.device), shape)
