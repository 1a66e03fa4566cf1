"""Gamma: grey values bent along a power law, with the mean and the spread they had before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from medseg.transforms.intensity.base import RandIntensityd, pick

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monai.config import KeysCollection
    from torch import Tensor

_EPS = 1e-7


@dataclass(frozen=True)
class Gamma:
    """x -> ((x - low) / range) ^ gamma * range + low.

    Args:
        gamma: below 1 brightens the dark part.
        invert: bend -x instead of x: acts on the bright part.
        retain: give the result the mean and the standard deviation of x.
    """

    gamma: float
    invert: bool = False
    retain: bool = True


def bend_gamma(channel: Tensor, choice: Gamma) -> Tensor:
    """(D, H, W) bent; as MONAI's AdjustContrast and nnU-Net do it."""
    low, high = torch.aminmax(channel)
    span = high - low
    # Of -x, the low end is -high: (-x + high) / span.
    origin, sign = (high, -1.0) if choice.invert else (low, 1.0)
    bent = channel.sub(origin).mul_(sign / span.clamp(min=_EPS)).pow_(choice.gamma)
    if not choice.retain:
        return bent.mul_(sign * span).add_(origin)
    mean, sd = _mean_sd(channel)
    now, spread = _mean_sd(bent)
    # sd of bent * span is spread * span, and the span cancels where it is not 0.
    gain = sign * sd / (spread * span).clamp(min=_EPS) * span
    return bent.sub_(now).mul_(gain).add_(mean)


def _mean_sd(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of all voxels (n - 1), several times faster than torch.std."""
    mean = x.mean()
    rest = (x - mean).flatten()
    return mean, (rest @ rest / max(x.numel() - 1, 1)).sqrt()


class RandGammad(RandIntensityd):
    """Bend grey values at random.

    Args:
        keys: images (C, D, H, W).
        prob: probability of changing an image.
        gamma: smallest and largest exponent; below and above 1 equally likely, as in nnU-Net.
        invert: bend the inverted image.
        retain: keep mean and standard deviation.
        **kwargs: of `RandIntensityd`.
    """

    apply = staticmethod(bend_gamma)

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.3,
        gamma: Sequence[float] = (0.7, 1.5),
        invert: bool = False,
        retain: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(keys, prob, **kwargs)
        self.gamma = tuple(gamma)
        self.invert = invert
        self.retain = retain

    def draw(self) -> Gamma:
        """An exponent."""
        low, high = self.gamma
        below = low < 1 and (high <= 1 or self.R.rand() < 0.5)
        span = (low, min(1.0, high)) if below else (max(1.0, low), high)
        return Gamma(pick(self.R, span), self.invert, self.retain)
