"""Boxes for the tests: seeded, and as Hypothesis draws them."""

from __future__ import annotations

import torch
from hypothesis import strategies as st


def crowd(n: int, seed: int = 0, side: float = 60.0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """(n, 6) boxes of 2 to 25 voxels in a cube of `side`."""
    rng = torch.Generator().manual_seed(seed)
    low = torch.rand(n, 3, generator=rng, dtype=dtype) * side - 10
    return torch.cat([low, low + 2 + torch.rand(n, 3, generator=rng, dtype=dtype) * 23], 1)


def integer_crowd(n: int, seed: int = 0, side: int = 10, most: int = 8) -> torch.Tensor:
    """(n, 6) boxes on whole voxels: many equal IoUs, many on the threshold exactly."""
    rng = torch.Generator().manual_seed(seed)
    low = torch.randint(0, side, (n, 3), generator=rng)
    return torch.cat([low, low + torch.randint(1, most, (n, 3), generator=rng)], 1).float()


def scores(n: int, seed: int = 0) -> torch.Tensor:
    """(n,) scores in steps of 0.05, so that there are ties."""
    return torch.randint(1, 21, (n,), generator=torch.Generator().manual_seed(seed)).float() / 20


seeds = st.integers(0, 2**20)
counts = st.integers(0, 40)
