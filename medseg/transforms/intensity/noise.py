"""Gaussian noise, named by its seed."""

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
class Noise:
    """Independent noise of standard deviation `sd` in each voxel, drawn by torch's generator from `seed`."""

    sd: float
    seed: int


def add_noise(channel: Tensor, choice: Noise) -> Tensor:
    """(D, H, W) with noise; a seed gives other noise on a GPU than on a CPU."""
    generator = torch.Generator(channel.device).manual_seed(choice.seed)
    noise = torch.empty_like(channel, memory_format=torch.contiguous_format).normal_(generator=generator)
    return noise.mul_(choice.sd).add_(channel)


class RandNoised(RandIntensityd):
    """Add Gaussian noise of random strength, in a quarter of the time of MONAI's `RandGaussianNoised`.

    Args:
        keys: images (C, D, H, W).
        prob: probability of changing an image.
        sd: smallest and largest standard deviation, in the image's unit.
        **kwargs: of `RandIntensityd`.
    """

    apply = staticmethod(add_noise)

    def __init__(
        self, keys: KeysCollection, prob: float = 0.1, sd: Sequence[float] = (0.0, 0.1), **kwargs: Any
    ) -> None:
        super().__init__(keys, prob, **kwargs)
        self.sd = tuple(sd)

    def draw(self) -> Noise:
        """A strength and a seed."""
        return Noise(pick(self.R, self.sd), int(self.R.randint(2**31)))
