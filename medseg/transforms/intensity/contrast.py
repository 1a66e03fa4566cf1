"""Contrast: values move away from their mean, or toward it, within the range that they had."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from medseg.transforms.intensity.base import RandIntensityd, pick

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monai.config import KeysCollection
    from torch import Tensor


@dataclass(frozen=True)
class Contrast:
    """x -> clip((x - mean) * factor + mean); clipped to the least and greatest value of the channel."""

    factor: float


def adjust_contrast(channel: Tensor, choice: Contrast) -> Tensor:
    """(D, H, W) with its contrast changed."""
    low, high = torch.aminmax(channel)
    return channel.mul(choice.factor).add_(channel.mean() * (1 - choice.factor)).clamp_(low, high)


class RandContrastd(RandIntensityd):
    """Change the contrast at random: MONAI's `RandScaleIntensityFixedMeand`, by channel and with a record.

    Args:
        keys: images (C, D, H, W).
        prob: probability of changing an image.
        factor: smallest and largest factor.
        **kwargs: of `RandIntensityd`.
    """

    apply = staticmethod(adjust_contrast)

    def __init__(
        self, keys: KeysCollection, prob: float = 0.15, factor: Sequence[float] = (0.75, 1.25), **kwargs: Any
    ) -> None:
        super().__init__(keys, prob, **kwargs)
        self.factor = tuple(factor)

    def draw(self) -> Contrast:
        """A factor."""
        return Contrast(pick(self.R, self.factor))
