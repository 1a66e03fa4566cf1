"""Streaming statistics of samples: mean, entropies, variance and votes, without keeping the samples.

For samples p_1 .. p_T of a voxel's class probabilities, with entropy H in nats (Depeweg et al., ICML 2018):

    mean m = 1/T sum p_t                    predictive entropy PE = H(m)           in [0, ln C]
    expected entropy EE = 1/T sum H(p_t)    mutual information MI = PE - EE >= 0   at most min(ln C, ln T)

Means are updated as m += (p - m) / t, so that T equal samples give exactly that sample. MI below 2^-20 of PE is set to
exactly 0: fp32 cannot tell it from rounding. Channels with a sigmoid each (nested regions) have a binary entropy each, of
which the mean is taken; ln C is ln 2 then.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medseg.errors import InputError, UsageError
from medseg.inferers.sinks import largest_class, painted_regions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Voxels at a time: a sample's scores and what is computed of them stay in the second-level cache.
PIECE = 2**14
# Votes are counted in bytes.
MOST_SAMPLES = 255
# Below this a probability adds less than 1e-33 to an entropy; log needs a number above 0.
TINY = 1e-38
# Two fp32 entropies of equal probabilities differ by less, relatively: the sums may be taken in another order.
ROUNDING = 2.0**-20


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """What the samples of one image say together.

    Args:
        labels: (*space) uint8 labels of the mean probabilities.
        entropy: (*space) float32 predictive entropy / ln C, in [0, 1].
        mutual_information: (*space) float32 mutual information / ln C, in [0, 1].
        votes: (S, *space) uint8: how many samples give a voxel to each structure: classes 1 .. C - 1, or each region.
        voxels: (T, S) int64: size of each structure in each sample.
        mean: (K, *space) float32 mean probabilities.
        variance: (K, *space) float32 population variance of the probabilities, in [0, 1/4]; None if not asked for.
        kept: (T, *space) uint8 labels of each sample; None if not asked for.
    """

    labels: Tensor
    entropy: Tensor
    mutual_information: Tensor
    votes: Tensor
    voxels: Tensor
    mean: Tensor
    variance: Tensor | None = None
    kept: Tensor | None = None

    @property
    def samples(self) -> int:
        """How many samples there were."""
        return len(self.voxels)


class Moments:
    """Collects samples voxel by voxel; every voxel must get its samples in order.

    Args:
        space: spatial shape.
        channels: K of the network's output.
        count: samples T, at most 255.
        regions: label values of sigmoid channels; None for classes.
        temperature: logits are divided by it (Guo et al., ICML 2017).
        variance: keep the variance of each channel too.
        keep: keep the labels of each sample too: T bytes a voxel.
        device: where it is kept.
    """

    def __init__(
        self,
        space: Sequence[int],
        channels: int,
        count: int,
        *,
        regions: Sequence[int] | None = None,
        temperature: float = 1.0,
        variance: bool = False,
        keep: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        if not 1 <= count <= MOST_SAMPLES:
            raise UsageError("MS-U147", f"{count} samples", mend=f"ask for at most {MOST_SAMPLES}")
        self.count = count
        self.regions = None if regions is None else tuple(regions)
        self.temperature = temperature
        structures = channels - (self.regions is None)
        # Outside the body box nothing is written: background for certain.
        self.mean = torch.zeros((channels, *space), device=device)
        if self.regions is None:
            self.mean[0] = 1.0
        self.expected = torch.zeros(tuple(space), device=device)
        self.votes = torch.zeros((structures, *space), dtype=torch.uint8, device=device)
        self.voxels = torch.zeros((count, structures), dtype=torch.int64, device=device)
        self.squares = torch.zeros_like(self.mean) if variance else None
        self.kept = torch.zeros((count, *space), dtype=torch.uint8, device=device) if keep else None

    def add(self, where: tuple[slice, ...], logits: Tensor, sample: int) -> None:
        """Take one sample of a part of the volume.

        Args:
            where: the part, per spatial axis.
            logits: (K, *part) float32; may be overwritten.
            sample: index of the sample.

        Raises:
            InputError: MS-U143 where a logit is NaN.
        """
        mean, expected = self.mean[(slice(None), *where)], self.expected[where]
        votes = self.votes[(slice(None), *where)]
        squares = None if self.squares is None else self.squares[(slice(None), *where)]
        for rows in _pieces(logits):
            p = self._probabilities(logits[:, rows])
            self._vote(p, votes[:, rows], sample)
            if self.kept is not None:
                self.kept[(sample, *where)][rows] = self._labels(p)
            entropy = self._entropy(p)
            if sample == 0:
                mean[:, rows], expected[rows] = p, entropy
                continue
            share = 1.0 / (sample + 1)
            change = p - mean[:, rows]
            mean[:, rows].add_(change, alpha=share)
            expected[rows].add_(entropy.sub_(expected[rows]), alpha=share)
            if squares is not None:
                squares[:, rows].addcmul_(change, p - mean[:, rows])

    def result(self) -> Uncertainty:
        """The maps; the collected means become part of them."""
        entropy = torch.empty_like(self.expected)
        labels = torch.empty(self.expected.shape, dtype=torch.uint8, device=entropy.device)
        for rows in _pieces(self.mean):
            mean = self.mean[:, rows]
            entropy[rows] = self._entropy(mean)
            labels[rows] = self._labels(mean)
        unit = 1.0 / log(2 if self.regions is not None else self.mean.shape[0])
        information = entropy - self.expected
        information[information <= ROUNDING * entropy] = 0.0
        information.mul_(unit).clamp_(max=1.0)
        variance = None if self.squares is None else self.squares.div_(self.count)
        entropy.mul_(unit).clamp_(max=1.0)
        return Uncertainty(labels, entropy, information, self.votes, self.voxels, self.mean, variance, self.kept)

    def _probabilities(self, logits: Tensor) -> Tensor:
        scores = logits if self.temperature == 1.0 else logits / self.temperature
        p = scores.softmax(0) if self.regions is None else scores.sigmoid()
        if p.sum().isnan():
            what = "the network returned values that are not numbers (NaN)"
            mend = "check the image for NaN, and try precision='fp32' in the bundle's inferer"
            raise InputError("MS-U143", what, mend=mend)
        return p

    def _labels(self, p: Tensor) -> Tensor:
        return largest_class(p) if self.regions is None else painted_regions(p - 0.5, self.regions)

    def _vote(self, p: Tensor, votes: Tensor, sample: int) -> None:
        if self.regions is None:
            won = largest_class(p)
            chosen = [won == value for value in range(1, p.shape[0])]
        else:
            chosen = list(p > 0.5)
        for structure, mask in enumerate(chosen):
            votes[structure] += mask
            self.voxels[sample, structure] += mask.sum()

    def _entropy(self, p: Tensor) -> Tensor:
        """Entropy over the channels, nats: (K, *part) -> (*part)."""
        terms = p.clamp(min=TINY).log_().mul_(p)
        if self.regions is None:
            return terms.sum(0).neg_().clamp_(min=0.0)
        q = 1.0 - p
        return (terms + q.clamp(min=TINY).log_().mul_(q)).mean(0).neg_().clamp_(min=0.0)


def _pieces(values: Tensor) -> Iterator[slice]:
    """Rows of the first spatial axis that a CPU's cache holds; all rows elsewhere."""
    rows = values.shape[1]
    step = rows
    if values.device.type == "cpu":
        step = max(1, PIECE // max(1, values[0, :1].numel()))
    for row in range(0, rows, step):
        yield slice(row, row + step)
