"""To another number of voxels between the same outer edges, as skimage's `resize(mode="edge", anti_aliasing=False)`.

    n voxels -> m voxels: target voxel t lies at source index x = (t + 0.5) n / m - 0.5

Beyond the outermost centres the image goes on with its edge values. A cubic spline then follows from the image with 12
edge values before and behind it, as scipy does it (its recursions forget 0.268 a voxel: 1e-7 of what lies further out).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.resample.cubic import along

if TYPE_CHECKING:
    from collections.abc import Sequence

_EDGE = 12
#: Interpolations: nearest, linear, cubic B-spline.
ORDERS = (0, 1, 3)


def stretch(array: np.ndarray, shape: Sequence[int], order: int = 3, threads: int | None = None) -> np.ndarray:
    """Sample an image at another number of voxels; axes that keep theirs are left as they are.

    Args:
        array: (I, J, K) real.
        shape: wanted.
        order: 0 nearest, 1 linear, 3 cubic B-spline. Cubic ones overshoot: values can leave the image's range.
        threads: at most this many; None: every processor this process may use.

    Returns:
        `shape` float32, C-contiguous where anything was sampled.

    Raises:
        ValueError: the order is unknown, or a shape is no three positive numbers.
    """
    if order not in ORDERS:
        msg = f"order is one of {', '.join(map(str, ORDERS))}, got {order!r}"
        raise ValueError(msg)
    if array.ndim != 3 or len(shape) != 3 or min(shape) < 1:
        msg = f"an image (I, J, K) becomes three positive numbers of voxels, got {array.shape} and {tuple(shape)}"
        raise ValueError(msg)
    out = array.astype(np.float32, copy=False)
    for axis in sorted(range(3), key=lambda a: shape[a] / array.shape[a]):  # what shrinks most goes first
        if out.shape[axis] != shape[axis]:
            out = _stretch_axis(out, axis, int(shape[axis]), order, threads)
    return out


def nearest(n: int, m: int) -> np.ndarray:
    """(m,) the source voxel of each target voxel, the upper one of two that are equally near."""
    return np.clip(np.floor(_places(n, m) + 0.5), 0, n - 1).astype(np.int64)


def _places(n: int, m: int) -> np.ndarray:
    return n / m * (np.arange(m) + 0.5) - 0.5


def _stretch_axis(array: np.ndarray, axis: int, m: int, order: int, threads: int | None) -> np.ndarray:
    n = array.shape[axis]
    if order == 0:
        return array.take(nearest(n, m), axis)
    x = _places(n, m)
    if order == 3:
        pad = [(_EDGE, _EDGE) if a == axis else (0, 0) for a in range(3)]
        return along(np.ascontiguousarray(np.pad(array, pad, mode="edge")), axis, x + _EDGE, threads)
    x = np.clip(x, 0, n - 1)
    lower = np.floor(x).astype(np.int64)
    weight = np.expand_dims((x - lower).astype(np.float32), [a for a in range(3) if a != axis])
    low, high = array.take(lower, axis), array.take(np.minimum(lower + 1, n - 1), axis)
    return low + weight * (high - low)
