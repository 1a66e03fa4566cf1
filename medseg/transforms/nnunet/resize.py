"""nnU-Net's resampling: cubic or linear; where one axis has much thicker voxels, within its planes and then across them.

The rule (`default_resampling.py`): with `separate` null, an axis is taken apart where the largest spacing is more than
`threshold` times the smallest, looked for in the spacing before and, if nothing is found, in the one after; not where two
axes share the largest spacing. Each plane is then resized by itself and planes are chosen with `order_z`.

Results stay within the range of what was resized (the image, or the plane), as skimage clips them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.resample import stretch

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Resizing:
    """How arrays are resized.

    Args:
        order: 0, 1 or 3; None: not at all.
        order_z: of an axis that is taken apart.
        separate: take the thickest axis apart: always, never, or by the rule (None).
        threshold: of the rule.
        clip: keep cubic results in the range of what was resized (skimage does, torch has nothing to clip).
    """

    order: int | None = 3
    order_z: int = 0
    separate: bool | None = None
    threshold: float = 3.0
    clip: bool = True


def thick_axis(before_mm: Sequence[float], after_mm: Sequence[float], how: Resizing) -> int | None:
    """The axis that is taken apart, None where there is none.

    Worked example: 0.5 x 0.5 x 3 mm onto 1 mm gives 2, and so does the way back; (0.5, 3, 3) gives None.
    """
    if how.separate is False:
        return None
    for spacing in (before_mm, after_mm):
        thick = [axis for axis, mm in enumerate(spacing) if mm == max(spacing)]
        if how.separate or max(spacing) / min(spacing) > how.threshold:
            return thick[0] if len(thick) == 1 else None
    return None


def new_shape(shape: Sequence[int], before_mm: Sequence[float], after_mm: Sequence[float]) -> tuple[int, int, int]:
    """Voxels at another spacing, rounded to the nearest (halves to even), at least 1."""
    i, j, k = (max(round(b / a * n), 1) for n, b, a in zip(shape, before_mm, after_mm, strict=True))
    return i, j, k


def resize(array: np.ndarray, shape: Sequence[int], how: Resizing, thick: int | None, threads: int = 1) -> np.ndarray:
    """Resize an image.

    Args:
        array: (I, J, K) float32.
        shape: wanted.
        how: orders.
        thick: the axis that is taken apart, see `thick_axis`.
        threads: at most this many.

    Returns:
        `shape` float32; `array` itself where it has that shape.
    """
    shape = tuple(int(n) for n in shape)
    if array.shape == shape or how.order is None:
        return array
    if thick is None:
        return _clipped(stretch(array, shape, how.order, threads), array, how, None)
    in_plane = tuple(array.shape[a] if a == thick else n for a, n in enumerate(shape))
    planes = _clipped(stretch(array, in_plane, how.order, threads), array, how, thick)
    return stretch(planes, shape, how.order_z, threads)


def _clipped(new: np.ndarray, old: np.ndarray, how: Resizing, thick: int | None) -> np.ndarray:
    if not how.clip or how.order != 3:
        return new
    axes = tuple(axis for axis in range(3) if axis != thick)
    low, high = old.min(axis=axes, keepdims=True), old.max(axis=axes, keepdims=True)
    return np.clip(new, low, high, out=new if new is not old and new.flags.writeable else None)
