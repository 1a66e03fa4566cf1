"""What every loss looks at: logits, what is true of each voxel, and where that is known.

A target may be, along its channels,

- 1: a label map, the class of each voxel (also where `sigmoid` is set: channel c is class c);
- C: one channel a class, one-hot or soft (the mean of several annotators, a teacher's probabilities), or regions that
  overlap (`sigmoid`);
- and behind either the distance maps of `medseg.transforms.DistanceMapsd`, for the losses that take them.

`ignore_index` marks voxels that no loss looks at: those of this value in a label map. Of C channels it marks, if it is a
class, the voxels of that class, as in MONAI; else the channels in which it is written and, of one-hot channels, the
voxels that belong to no class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, eq=False)
class Pair:
    """Logits beside their target.

    Args:
        logits: (B, C, ...) float32 or float64.
        target: (B, 1, ...) classes or (B, C, ...) shares in [0, 1].
        sigmoid: the channels are regions, each on its own; else one of them is true of each voxel.
        ignore_index: see above; None: everything is known.
        maps: (B, K, ...) signed distances in mm, one for each channel that counts; None: none were given.
        classes: which class each channel is, for weights; partial labels leave some out.
    """

    logits: Tensor
    target: Tensor
    sigmoid: bool = False
    ignore_index: int | None = None
    maps: Tensor | None = None
    classes: tuple[int, ...] = ()

    @cached_property
    def probs(self) -> Tensor:
        """(B, C, ...), 0 where nothing is known."""
        probs = self.logits.sigmoid() if self.sigmoid else self.logits.softmax(1)
        return probs if self.known is None else probs * self.known

    @cached_property
    def truth(self) -> Tensor:
        """(B, C, ...) shares in [0, 1], 0 where nothing is known.

        Raises:
            ValueError: a class that the network does not have, or a share outside [0, 1].
        """
        channels = self.logits.shape[1]
        if self.target.shape[1] == channels:
            truth = self.target.to(self.logits.dtype)
            truth = truth if self.known is None else torch.where(self.known > 0, truth * self.known, 0)
            low, high = (x.item() for x in truth.aminmax())
            if high > 1 + 1e-4 or low < 0:
                msg = (
                    f"target from {low:g} to {high:g}, but each of its {channels} channels "
                    "holds shares from 0 to 1; give shares, and ignore_index for voxels that do not count"
                )
                raise ValueError(msg)
            return truth
        labels = self.target if self.known is None else torch.where(self.known > 0, self.target, 0)
        low, high = (x.item() for x in labels.aminmax())
        if high >= channels or low < 0:
            msg = (
                f"labels from {low:g} to {high:g} for {channels} channels; give classes "
                f"0 to {channels - 1}, and ignore_index for voxels that do not count"
            )
            raise ValueError(msg)
        truth = torch.cat([labels == c for c in range(channels)], 1).to(self.logits.dtype)
        return truth if self.known is None else truth * self.known

    @cached_property
    def known(self) -> Tensor | None:
        """(B, 1, ...), or (B, C, ...) where regions are unknown each on their own: 1 where the target says something."""
        if self.ignore_index is None:
            return None
        target, channels = self.target, self.logits.shape[1]
        if target.shape[1] == 1:
            known = target != self.ignore_index
        elif 0 <= self.ignore_index < channels:
            known = 1 - target[:, self.ignore_index : self.ignore_index + 1]
        elif self.sigmoid:
            known = target != self.ignore_index
        else:
            known = (target != self.ignore_index).all(1, keepdim=True) & (target.sum(1, keepdim=True) > 0)
        return known.to(self.logits.dtype)

    def counted(self, include_background: bool) -> Counted:
        """The channels that count."""
        first = 0 if include_background or self.logits.shape[1] == 1 else 1
        known = self.known if self.known is None or self.known.shape[1] == 1 else self.known[:, first:]
        return Counted(self.probs[:, first:], self.truth[:, first:], known, self.classes[first:])


@dataclass(frozen=True, eq=False)
class Counted:
    """Probabilities and shares of the channels that count, 0 where nothing is known; `known` as in `Pair`."""

    probs: Tensor
    truth: Tensor
    known: Tensor | None
    classes: tuple[int, ...]

    def voxels(self) -> Tensor:
        """(B, C or 1) voxels that are known, at least 1 to divide by."""
        shape = self.probs.shape
        if self.known is None:
            return self.probs.new_full((1, 1), float(shape[2:].numel()))
        return self.known.flatten(2).sum(2).clamp(min=1)


class PairLoss(nn.Module, ABC):
    """A loss of logits (B, C, ...) and a target, computed in float32 (float64 stays) also under autocast.

    Args:
        sigmoid: the channels are regions that may overlap; else classes that share each voxel (softmax).
        include_background: count channel 0 too; None: only of regions (`sigmoid`), where it is one of them.
        ignore_index: mark of voxels that do not count; see `medseg.losses.pair`.
        weight: of each class, channel 0 included, whether it counts or not; the loss is a weighted mean, so that only
            their ratios matter. None: all alike.
    """

    #: whether distance maps lie behind the target's label
    takes_maps = False

    def __init__(
        self,
        *,
        sigmoid: bool = False,
        include_background: bool | None = None,
        ignore_index: int | None = None,
        weight: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if weight is not None and (min(weight) < 0 or max(weight) <= 0):
            msg = f"class weights are at least 0 and not all 0, got {list(weight)}"
            raise ValueError(msg)
        self.sigmoid = sigmoid
        self.include_background = sigmoid if include_background is None else include_background
        self.ignore_index = ignore_index
        self.weight = None if weight is None else tuple(float(w) for w in weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:  # noqa: A002 - MONAI's name
        """A scalar.

        Args:
            input: logits (B, C, ...).
            target: (B, 1, ...) or (B, C, ...), any type, with distance maps behind if the loss takes them.

        Raises:
            ValueError: shapes that do not fit, classes that the network does not have.
        """
        with torch.autocast(input.device.type, enabled=False):
            return self.of(self.pair(input, target))

    def pair(self, logits: Tensor, target: Tensor) -> Pair:
        """Logits and target checked and put side by side."""
        if logits.shape[1] == 1 and not self.sigmoid:
            msg = "one channel has no softmax: give the network a channel for the background, or the loss sigmoid: true"
            raise ValueError(msg)
        if logits.shape[2:] != target.shape[2:] or len(logits) != len(target):
            msg = f"logits {tuple(logits.shape)} and target {tuple(target.shape)} do not lie on one grid"
            raise ValueError(msg)
        channels = logits.shape[1]
        maps = channels - (channels > 1 and not self.include_background) if self.takes_maps else 0
        of_label = target.shape[1] - maps
        if of_label not in (1, channels):
            behind = f" and behind it {maps} distance maps (medseg.transforms.DistanceMapsd)" if maps else ""
            msg = f"target of {target.shape[1]} channels for {channels} of logits: wanted 1 or {channels}{behind}"
            raise ValueError(msg)
        logits = _plain(logits) if logits.dtype == torch.float64 else _plain(logits).float()
        target = _plain(target)
        return Pair(
            logits,
            target[:, :of_label],
            self.sigmoid,
            self.ignore_index,
            target[:, of_label:].to(logits.dtype) if maps else None,
            tuple(range(channels)),
        )

    @abstractmethod
    def of(self, pair: Pair) -> Tensor:
        """The scalar loss of a pair that `pair` made."""

    def class_weights(self, classes: Sequence[int], like: Tensor) -> Tensor:
        """(C,) weights of these classes, all 1 where none were given.

        Raises:
            ValueError: fewer weights than classes.
        """
        if self.weight is None:
            return like.new_ones(len(classes))
        if max(classes) >= len(self.weight):
            msg = f"{len(self.weight)} class weights, but there are {max(classes) + 1} classes, the background included"
            raise ValueError(msg)
        return like.new_tensor([self.weight[c] for c in classes])

    def mean(self, each: Tensor, classes: Sequence[int]) -> Tensor:
        """Weighted mean of (B, C) values; 0 with a gradient if the weights of all classes at hand are 0."""
        weights = self.class_weights(classes, each)
        return (each * weights).sum(1).mean() / weights.sum().clamp(min=torch.finfo(each.dtype).tiny)


def _plain(tensor: Tensor) -> Tensor:
    """A MetaTensor's values: its bookkeeping costs at every step and says nothing here."""
    return tensor.as_tensor() if hasattr(tensor, "as_tensor") else tensor  # type: ignore[attr-defined]
