"""Volumes a piece at a time, so that counting voxels needs no second volume in memory."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

#: Voxels of a piece, about.
PIECE = 1 << 22


def pieces(**arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Views of matching parts of arrays of one shape, cut along the slowest axis of the first.

    Raises:
        ValueError: the shapes differ.
    """
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        msg = f"these are compared voxel by voxel and have one shape, got {shapes}"
        raise ValueError(msg)
    first = next(iter(arrays.values()))
    axes = slowest_first(first)
    turned = [array.transpose(axes) for array in arrays.values()]
    shape = turned[0].shape
    step = max(1, PIECE // max(1, prod(shape[1:])))
    for start in range(0, shape[0], step):
        yield tuple(array[start : start + step] for array in turned)


def slowest_first(array: np.ndarray) -> tuple[int, ...]:
    """The array's axes as they lie in memory, the longest stride first."""
    return tuple(sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis])))
