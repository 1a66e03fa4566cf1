"""Partial labels: cases in which only some of the classes were labelled (Shi et al., Medical Image Analysis 2021).

Where nobody looked for the spleen, "background" means "background or spleen". So the spleen's probability is added to
the background's, case by case, and the loss sees fewer classes. In logits that is a logsumexp, exactly. Fang & Yan
(IEEE TMI 2020) do the same with a target that adapts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medseg.losses.pair import Pair, PairLoss

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Classes that one flag channel tells of, a bit each: float32 holds 24 bits, half precision 11.
BITS = 11


class MarginalLoss(PairLoss):
    """Any of medseg's losses for cases that are labelled in part.

    Behind the label (and the distance maps, if the loss takes them) lie `medseg.transforms.LabelledClassesd`'s
    channels, which say of each case what was labelled:

        {"_target_": "medseg.losses.MarginalLoss", "loss": {"_target_": "medseg.losses.CompoundLoss", ...}}

    Mean over the cases of the batch. A case with nothing labelled counts 0. With `batch` a loss sums over the cases
    that were labelled alike.

    Args:
        loss: of classes that share each voxel (softmax), the background channel 0. Its class weights hold for the
            classes that are labelled.
    """

    def __init__(self, loss: PairLoss) -> None:
        if not isinstance(loss, PairLoss) or loss.sigmoid or (loss.takes_maps and loss.include_background):
            msg = (
                "MarginalLoss merges classes into the background of one of medseg's softmax losses, whose distance maps, "
                "if any, are of the foreground; with sigmoid, mark regions that were not labelled by ignore_index instead"
            )
            raise ValueError(msg)
        super().__init__(include_background=loss.include_background, ignore_index=loss.ignore_index)
        self.loss = loss
        self.takes_maps = loss.takes_maps

    def pair(self, logits: Tensor, target: Tensor) -> Pair:
        """The pair without the flags' channels, which `forward` reads beforehand."""
        return self.loss.pair(logits, target)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:  # noqa: A002 - MONAI's name
        """A scalar.

        Args:
            input: logits (B, C, ...).
            target: (B, 1 or C, ...), the distance maps if the loss takes them, and the flags' channels.

        Raises:
            ValueError: shapes that do not fit, or an `ignore_index` that is one of the classes.
        """
        channels = input.shape[1]
        flags = -(-(channels - 1) // BITS)
        if self.ignore_index is not None and 0 <= self.ignore_index < channels:
            msg = f"ignore_index {self.ignore_index} is one of the {channels} classes; partial labels need one that is not"
            raise ValueError(msg)
        with torch.autocast(input.device.type, enabled=False):
            pair = self.pair(input, target[:, :-flags])
            sets = labelled_classes(target[:, -flags:], channels)
            total = pair.logits.sum() * 0.0
            for classes in dict.fromkeys(sets):
                cases = [i for i, those in enumerate(sets) if those == classes]
                if len(classes) > 1:
                    total = total + self.loss.of(merged(pair, cases, classes)) * (len(cases) / len(sets))
        return total

    def of(self, pair: Pair) -> Tensor:
        """The loss of a pair whose classes are all labelled."""
        return self.loss.of(pair)


def labelled_classes(flags: Tensor, channels: int) -> list[tuple[int, ...]]:
    """What was labelled in each case, the background first: [(0, 2, 3), ...].

    Args:
        flags: (B, F, ...), constant over space: bit k of channel f stands for class 1 + f BITS + k.
        channels: classes, the background included.
    """
    bits = flags.flatten(2)[..., 0].long().tolist()
    return [(0, *(c for c in range(1, channels) if row[(c - 1) // BITS] >> ((c - 1) % BITS) & 1)) for row in bits]


def merged(pair: Pair, cases: Sequence[int], classes: Sequence[int]) -> Pair:
    """Some cases with these classes alone, the background first; all others are added to the background."""
    channels = pair.logits.shape[1]
    logits, target = pair.logits[cases], pair.target[cases]
    rest = [c for c in range(channels) if c not in classes[1:]]
    background = logits[:, rest].logsumexp(1, keepdim=True)
    if target.shape[1] == channels:
        # What marks unknown voxels stays as it is: shares are at least 0.
        ours = target[:, rest]
        unknown = (target == pair.ignore_index).any(1, keepdim=True) if pair.ignore_index is not None else None
        ground = ours.sum(1, keepdim=True)
        target = torch.cat([ground, target[:, list(classes[1:])]], 1)
        if unknown is not None:
            target = torch.where(unknown, torch.full_like(target, float(pair.ignore_index or 0)), target)
    else:
        known = torch.zeros_like(target)
        for new, c in enumerate(classes):
            known = torch.where(target == c, new, known)
        foreign = (target < 0) | (target >= channels)  # ignore_index; or a mistake, which `Pair.truth` will name
        target = torch.where(foreign, target, known)
    return replace(
        pair,
        logits=torch.cat([background, logits[:, list(classes[1:])]], 1),
        target=target,
        maps=None if pair.maps is None else pair.maps[cases][:, [c - 1 for c in classes[1:]]],
        classes=tuple(classes),
    )
