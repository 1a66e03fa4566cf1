"""What becomes of a finished slab: a label map, or logits.

A sink receives each part of the volume once, as soon as no window can change it any more. It must use the slab
before it returns: the memory is used again. Whatever can be computed voxel by voxel from blended network outputs
(labels, probabilities, entropy over classes) needs no volume of class scores then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

from medseg.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

# Voxels compared at a time on a CPU: scores, mask and labels of a piece stay in the second-level cache.
CPU_PIECE = 2**18

# Logit of "background for certain" outside the body box: softmax and sigmoid of it differ from 1 by less than 1e-8.
OUTSIDE_LOGIT = 20.0


class Sink(Protocol):
    """Takes the finished slabs of a volume.

    Attributes:
        needs_mean: True where slabs must be weighted means; False where weighted sums do (they differ by a positive
            factor per voxel, which changes neither the largest class nor a sign).
    """

    needs_mean: bool

    def write(self, item: int, where: tuple[slice, ...], slab: Tensor) -> None:
        """Take one slab.

        Args:
            item: index in the batch.
            where: its place in the image, per spatial axis.
            slab: (K, *space) float32 blended network outputs, valid until this returns; may be overwritten.
        """
        ...


class LogitSink:
    """Keeps the blended logits.

    Args:
        target: (B, K, *space) float32 tensor or view to fill.
    """

    needs_mean = True

    def __init__(self, target: Tensor) -> None:
        self.target = target

    def write(self, item: int, where: tuple[slice, ...], slab: Tensor) -> None:
        """Copy the means; see `Sink.write`."""
        self.target[(item, slice(None), *where)] = slab.to(self.target.device)


class LabelSink:
    """Keeps the class with the largest score; of equal scores the lowest class, as argmax does.

    Args:
        target: (B, *space) uint8 tensor or view to fill.
    """

    needs_mean = False

    def __init__(self, target: Tensor) -> None:
        self.target = target

    def write(self, item: int, where: tuple[slice, ...], slab: Tensor) -> None:
        """Compare class by class; see `Sink.write`."""
        target = self.target[(item, *where)]
        for piece, scores in _pieces(target, slab):
            piece.copy_(largest_class(scores))


class RegionSink:
    """Paints nested regions (whole tumour, then its core): the value of each channel where its logit is positive.

    Args:
        target: (B, *space) uint8 tensor or view to fill.
        values: the label value of each channel; later channels are painted over earlier ones.
    """

    needs_mean = False

    def __init__(self, target: Tensor, values: Sequence[int]) -> None:
        self.target = target
        self.values = tuple(int(v) for v in values)

    def write(self, item: int, where: tuple[slice, ...], slab: Tensor) -> None:
        """Paint channel by channel; see `Sink.write`."""
        target = self.target[(item, *where)]
        for piece, scores in _pieces(target, slab):
            piece.copy_(painted_regions(scores, self.values))


def largest_class(scores: Tensor) -> Tensor:
    """The argmax over the first axis by a running comparison: (K, *space) -> (*space) uint8, K <= 256.

    Made of plain elementwise passes, it is an order of magnitude faster than `torch.argmax` over a strided axis and
    needs no int64 map. Classes come in ascending order, so a later winner is also the larger label:
    `maximum(labels, class where it wins)` sets it.

    Raises:
        InputError: MS-U143 where a score is NaN.
    """
    best = scores[0].clone()
    labels = torch.zeros_like(best, dtype=torch.uint8)
    wins = torch.empty_like(best, dtype=torch.bool)
    won = wins.view(torch.uint8)
    for value in range(1, scores.shape[0]):
        torch.gt(scores[value], best, out=wins)
        torch.maximum(labels, won.mul_(value), out=labels)
        torch.maximum(best, scores[value], out=best)  # NaN spreads here, and is seen below
    _refuse_nan(best)
    return labels


def painted_regions(scores: Tensor, values: Sequence[int]) -> Tensor:
    """Values of the channels with a positive logit, later over earlier: (K, *space) -> (*space) uint8.

    Raises:
        InputError: MS-U143 where a logit is NaN.
    """
    labels = torch.zeros(scores.shape[1:], dtype=torch.uint8, device=scores.device)
    for channel, value in zip(scores, values, strict=True):
        _refuse_nan(channel)
        labels[channel > 0] = value
    return labels


def check_classes(classes: int, regions: Sequence[int] | None) -> None:
    """Refuse a number of channels that the label output cannot mean.

    Raises:
        UsageError: MS-U142.
    """
    if regions is not None:
        if len(regions) != classes:
            what = f"the network returns {classes} channels and regions names {len(regions)} values"
            raise UsageError("MS-U142", what, mend="give one label value for each output channel of the network")
    elif classes == 1:
        what = "the network returns 1 channel, of which argmax would make background everywhere"
        raise UsageError("MS-U142", what, mend="name the value to paint where the logit is positive: regions=[1]")
    elif classes > 256:
        what = f"the network returns {classes} classes and a label map holds 256"
        raise UsageError("MS-U142", what, mend='use output="logits"')


def _pieces(target: Tensor, slab: Tensor):
    """Target and slab in pieces that a CPU's cache holds; in one piece elsewhere."""
    rows = target.shape[0]
    step = rows
    if slab.device.type == "cpu":
        step = max(1, CPU_PIECE // max(1, target[0].numel()))
    for row in range(0, rows, step):
        yield target[row : row + step], slab[:, row : row + step]


def _refuse_nan(values: Tensor) -> None:
    # The sum of numbers is NaN only if one of them is, or if both infinities meet: neither is an answer.
    if values.sum().isnan():
        what = "the network returned values that are not numbers (NaN)"
        raise InputError(
            "MS-U143", what, mend="check the image for NaN, and try precision='fp32' in the bundle's inferer"
        )
