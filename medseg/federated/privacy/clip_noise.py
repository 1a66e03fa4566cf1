"""An update of bounded size with Gaussian noise on every entry: the Gaussian mechanism (Dwork and Roth 2014, chapter 3).

The whole table is one vector. Worked example: the update (3, 4) has the norm 5; clipped to 1 it is (0.6, 0.8); with a
noise multiplier of 0.5 each entry then gets noise of standard deviation 0.5. Two updates of norm at most C differ by at
most 2 C, which is what `accountant` counts with.
"""

from __future__ import annotations

import math
import secrets
from typing import TYPE_CHECKING

import torch

from medseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

#: Rounding in float32 must not carry a clipped update beyond the norm.
_MARGIN = 1e-6


class ClipError(InputError):
    """An update that cannot be clipped, so that noise would promise nothing; it was not sent."""


def norm(update: Mapping[str, Tensor]) -> float:
    """The L2 norm over all entries of all tensors, summed in float64."""
    return math.sqrt(sum(float(value.detach().double().square().sum()) for value in update.values()))


def clipped(update: Mapping[str, Tensor], clip_norm: float) -> tuple[dict[str, Tensor], float]:
    """The update scaled down to norm `clip_norm` where it is longer, and the norm that it had.

    Args:
        update: name -> float32, any shape.
        clip_norm: above 0.

    Raises:
        ClipError: MS-J120 it is not finite.
    """
    before = norm(update)
    if not math.isfinite(before):
        raise ClipError("MS-J120", "the update is not finite", mend="look at the site's training log; nothing was sent")
    scale = 1.0 if before <= clip_norm else clip_norm / before * (1 - _MARGIN)
    return {name: value.detach().float() * scale for name, value in update.items()}, before


def noised(update: Mapping[str, Tensor], deviation: float, generator: torch.Generator) -> dict[str, Tensor]:
    """The update with independent Gaussian noise of this standard deviation on every entry.

    Entries that are 0 get noise too: which weights did not change is no secret kept otherwise.
    """
    return {
        name: value + deviation * torch.randn(value.shape, generator=generator, dtype=torch.float32)
        for name, value in update.items()
    }


def fresh_generator() -> torch.Generator:
    """A generator that nobody can guess: seeded by the operating system, whatever seeds the training fixed.

    It is Mersenne's twister, which resists an attacker who sees its noise only as far as the update hides the noise.
    """
    return torch.Generator().manual_seed(secrets.randbits(63))
