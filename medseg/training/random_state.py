"""The state of every global random generator as plain data that a checkpoint can hold."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping


def random_state() -> dict[str, Any]:
    """Python's, numpy's and torch's (of every GPU too), as tensors, tuples and numbers."""
    kind, keys, position, has_normal, normal = np.random.get_state()  # noqa: NPY002  the generator that others use
    numpy = (kind, torch.from_numpy(np.asarray(keys, np.int64)), int(position), int(has_normal), float(normal))
    return {
        "python": random.getstate(),
        "numpy": numpy,
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Go on from there; generators of GPUs that are not here are left out."""
    version, internal, normal = state["python"]
    random.setstate((version, tuple(internal), normal))
    kind, keys, position, has_normal, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_normal, cached))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    for device, one in enumerate(state["cuda"][: torch.cuda.device_count() if torch.cuda.is_available() else 0]):
        torch.cuda.set_rng_state(one, device)
