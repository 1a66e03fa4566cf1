"""Where each target voxel lies in the source array.

A grid's affine leads from voxel centres to millimetres, so target voxel t lies at source index
`x = inv(source.affine) @ target.affine @ t`. Along a source axis of n voxels (centres 0 ... n-1, edges -0.5 and
n-0.5) it is

    outside the image      x < -0.5 or x > n - 0.5      -> the fill value
    in the outer half      x < 0 or x > n - 1           -> the outermost voxel's value (x is clamped)
    between two centres    lo <= x <= lo + 1            -> weights 1 - w on lo and w = x - lo on lo + 1

Worked example: 4 voxels of 1 mm (centres 0, 1, 2, 3; edges -0.5, 3.5) onto 0.5 mm voxels whose first centre is at
-0.75 mm: x = -0.75 (fill), -0.25 (clamped to 0: voxel 0), 0.25 (0.75 of voxel 0, 0.25 of voxel 1), ...
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from medseg.geometry import Grid

#: Source indices this close to what is wanted (a whole number, a right angle) count as equal, in voxels. Affines
#: stored as float32 are off by 1e-4 voxels over a large image.
TOLERANCE = 1e-3
_EDGE = 0.5 + 1e-6


@dataclass(frozen=True)
class Axis:
    """Source indices of the target voxels along one axis that has its counterpart in the source.

    Args:
        start: first target index that lies in the source; those before and from start + len(x) on are outside.
        x: (m,) float64 clamped source index of each target voxel inside.
    """

    start: int
    x: np.ndarray

    @property
    def whole(self) -> bool:
        """Whether the target voxels are every n-th source voxel: nothing to interpolate."""
        steps = np.diff(self.x)
        return bool((self.x == np.round(self.x)).all() and (steps == steps[:1]).all() and steps.all())

    @property
    def picked(self) -> slice:
        """The source voxels themselves, where the axis is `whole`."""
        if len(self.x) == 0:
            return slice(0, 0)
        first, last = int(self.x[0]), int(self.x[-1])
        step = int(self.x[1]) - first if len(self.x) > 1 else 1
        stop = last + step
        return slice(first, stop if stop >= 0 else None, step)

    @property
    def lower(self) -> np.ndarray:
        """(m,) uint32 the source voxel at or before each target voxel (unsigned: numba then needs no sign check)."""
        return np.floor(self.x).astype(np.uint32)

    @property
    def weight(self) -> np.ndarray:
        """(m,) float32 weight of the source voxel after `lower`; 0 where there is none."""
        return (self.x - np.floor(self.x)).astype(np.float32)


@dataclass(frozen=True)
class Aligned:
    """A source array seen along the target's axes, slowest in memory first.

    Args:
        array: C-contiguous (..., A, B, C) view of the source (a copy only if its memory has holes).
        axes: how each of its last three axes is sampled.
        order: the target axis that each of them is.
    """

    array: np.ndarray
    axes: tuple[Axis, Axis, Axis]
    order: tuple[int, int, int]

    def output(self, shape: tuple[int, int, int], dtype: np.dtype | type, fill: float) -> np.ndarray:
        """An output in this memory order, holding `fill` wherever the kernel will not write."""
        a, b, c = (shape[t] for t in self.order)
        inside = all(len(axis.x) == n for axis, n in zip(self.axes, (a, b, c), strict=True))
        return np.empty((a, b, c), dtype) if inside else np.full((a, b, c), fill, dtype)

    def inside(self, out: np.ndarray) -> np.ndarray:
        """The part of an output that lies in the source."""
        return out[tuple(slice(axis.start, axis.start + len(axis.x)) for axis in self.axes)]

    def restore(self, out: np.ndarray) -> np.ndarray:
        """A view of an output with the target's axis order."""
        return out.transpose(np.argsort(self.order))


def target_to_source(source: Grid, target: Grid) -> np.ndarray:
    """(4, 4) target voxel index -> source voxel index."""
    return np.linalg.solve(source.affine, target.affine)


def match_axes(source: Grid, target: Grid) -> tuple[int, int, int] | None:
    """The source axis that each target axis runs along, None when the grids stand oblique to each other."""
    linear = target_to_source(source, target)[:3, :3]
    axis = np.abs(linear).argmax(axis=0)
    if sorted(axis) != [0, 1, 2]:
        return None
    strayed = np.abs(linear) * (np.array(target.shape) - 1)
    strayed[axis, np.arange(3)] = 0
    if strayed.sum(axis=1).max() > TOLERANCE:
        return None
    i, j, k = (int(a) for a in axis)
    return i, j, k


def align(array: np.ndarray, source: Grid, target: Grid, axis: tuple[int, int, int]) -> Aligned:
    """View (..., I, J, K) `array` along the target's axes; `axis` comes from `match_axes`."""
    if array.shape[-3:] != source.shape:
        msg = f"the array has shape {array.shape}, its grid {source.shape}"
        raise ValueError(msg)
    lead = array.ndim - 3
    mapping = target_to_source(source, target)
    axes = [_axis(mapping[a, t], mapping[a, 3], source.shape[a], target.shape[t]) for t, a in enumerate(axis)]
    seen = array.transpose(*range(lead), *(lead + a for a in axis))
    for t in range(3):
        if seen.strides[lead + t] < 0:  # a flipped view: read it forwards, from the other end
            seen = np.flip(seen, lead + t)
            axes[t] = Axis(axes[t].start, seen.shape[lead + t] - 1 - axes[t].x)
    first, second, third = sorted(range(3), key=lambda t: (-seen.strides[lead + t], t))
    seen = seen.transpose(*range(lead), lead + first, lead + second, lead + third)
    return Aligned(np.ascontiguousarray(seen), (axes[first], axes[second], axes[third]), (first, second, third))


def with_kernel(array: np.ndarray, dtypes: tuple[type, ...]) -> np.ndarray:
    """The array in the first of `dtypes` that holds its dtype's values (the last one if none does).

    Every dtype costs its users a compilation, so kernels know few; the usual ones need no copy.
    """
    if array.dtype == np.bool_:
        array = array.view(np.uint8)
    fits = [dtype for dtype in dtypes if np.can_cast(array.dtype, dtype)]
    return array.astype(fits[0] if fits else dtypes[-1], copy=False)


def _axis(step: float, offset: float, n_source: int, n_target: int) -> Axis:
    x = offset + step * np.arange(n_target)
    if np.abs(x - np.round(x)).max(initial=0) < TOLERANCE:
        x = np.round(x)
    inside = np.flatnonzero((x >= -_EDGE) & (x <= n_source - 1 + _EDGE))
    start = int(inside[0]) if len(inside) else 0
    return Axis(start, np.clip(x[start : start + len(inside)], 0, n_source - 1))
