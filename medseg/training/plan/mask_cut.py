"""A mask cut to the box around it, so that a hundred of them fit into memory together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects


@dataclass(frozen=True)
class Cut:
    """A mask inside its box.

    Args:
        start: (3,) first voxel of the box.
        mask: of the box's shape, bool; (0, 0, 0) of an empty one.
    """

    start: np.ndarray
    mask: np.ndarray


def cut_of(mask: np.ndarray) -> Cut:
    """A mask (I, J, K) of bool in the box around it."""
    (box,) = find_objects(mask.view(np.uint8)) or [(slice(0, 0),) * 3]
    return Cut(np.array([side.start for side in box]), mask[box].copy())


def common(a: Cut, b: Cut) -> int:
    """Voxels in both masks."""
    start = np.maximum(a.start, b.start)
    stop = np.minimum(a.start + a.mask.shape, b.start + b.mask.shape)
    if (stop <= start).any():
        return 0
    inside = (
        one.mask[tuple(slice(x, y) for x, y in zip(start - one.start, stop - one.start, strict=True))] for one in (a, b)
    )
    return int(np.count_nonzero(np.logical_and(*inside)))
