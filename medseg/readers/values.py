"""Rules for voxel values that hold for every file format: number types, scaling, NaN, constant images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import InputError
from medseg.volume import Decision

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.readers.options import ReadOptions

#: float32 holds every whole number up to here.
_EXACT_IN_FLOAT32 = 2**24
_FLOAT32_MAX = float(np.finfo(np.float32).max)
#: Voxels that are worked on at once: their float64s stay in the processor's cache.
_BLOCK = 1 << 16


def scaled(array: np.ndarray, slope: float, inter: float, path: Path) -> np.ndarray:
    """`slope * array + inter`, worked out in float64 and kept as float32 (float64 where whole numbers need it).

    Args:
        array: 1-D, of any number type.
        slope: finite, not 0.
        inter: finite.
        path: named when refused.

    Raises:
        InputError: MS-F114 when the result is beyond float32.
    """
    peak = max(abs(float(f(array)) * slope + inter) for f in (np.fmin.reduce, np.fmax.reduce))
    if peak > _FLOAT32_MAX:
        raise InputError(
            "MS-F114",
            f"scaled by {slope:g} x + {inter:g} its voxels reach {peak:.3g}, beyond any intensity",
            file=path,
            mend="its scl_slope or scl_inter is damaged: write the file again from its source",
        )
    whole = float(slope).is_integer() and float(inter).is_integer() and array.dtype.kind in "iu"
    out = np.empty(array.shape, np.float64 if whole and peak > _EXACT_IN_FLOAT32 else np.float32)
    block = np.empty(_BLOCK)
    for start in range(0, array.size, _BLOCK):
        part = block[: min(_BLOCK, array.size - start)]
        part[:] = array[start : start + _BLOCK]
        part *= slope
        part += inter
        out[start : start + _BLOCK] = part
    return out


def narrowed(array: np.ndarray) -> tuple[np.ndarray, tuple[Decision, ...]]:
    """float64 as float32 where float32 can hold it; half floats widened; every other type as it is.

    float64 stays when a value is beyond float32 or a whole number beyond 2^24 would be rounded.
    """
    if array.dtype == np.float16:
        return array.astype(np.float32), ()
    if array.dtype != np.float64:
        return array, ()
    small = np.empty(array.shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, array.size, _BLOCK):
            block, rounded = (a[start : start + _BLOCK] for a in (array, small))
            rounded[:] = block
            changed = np.abs(block[rounded != block])  # NaN is neither beyond anything nor whole
            whole = changed == np.rint(changed)
            if ((changed > _FLOAT32_MAX) | ((changed > _EXACT_IN_FLOAT32) & whole)).any():
                return array, ()
    return small, (Decision("MS-F203", "stored as float64, read as float32", warning=False),)


def checked(array: np.ndarray, options: ReadOptions, path: Path) -> tuple[np.ndarray, tuple[Decision, ...]]:
    """Apply the NaN policy and notice constant images.

    Returns:
        `array` (NaN and infinities replaced in place when `options` say so) and what was decided.

    Raises:
        InputError: MS-F111 no voxel is a number, MS-F112 some voxels are NaN or infinite and `options` refuse them.
    """
    decisions: list[Decision] = []
    if array.dtype.kind == "f" and not _all_finite(array):
        bad = ~np.isfinite(array)
        count, first = int(bad.sum()), tuple(int(x) for x in np.argwhere(bad)[0])
        share = f"{count} of {array.size} voxels are NaN or infinite, the first at {first}"
        if count == array.size:
            raise InputError(
                "MS-F111", "every voxel is NaN or infinite", file=path, mend="write the file again from its source"
            )
        if options.fill is None:
            raise InputError(
                "MS-F112",
                share,
                file=path,
                mend="repair the image, or read it with --nonfinite fill:<value> (fill:-1024 is air in CT)",
            )
        array[bad] = options.fill
        decisions.append(Decision("MS-F201", f"{share}; replaced by {options.fill:g}"))
    if _constant(array):
        decisions.append(Decision("MS-F202", f"every voxel has the value {array.flat[0]:g}"))
    return array, tuple(decisions)


def _all_finite(array: np.ndarray) -> bool:
    flat = array.ravel(order="K")  # no copy of an array as it lies in its file
    return all(np.isfinite(flat[start : start + _BLOCK]).all() for start in range(0, flat.size, _BLOCK))


def _constant(array: np.ndarray) -> bool:
    first = array.flat[0]
    few = array[..., :: max(1, array.shape[-1] // 4)]
    return bool((few == first).all()) and bool((array == first).all())
