"""Uneven or tilted stacks -> an even lattice with right angles, resampled once and recorded.

Both steps are linear and keep what is known exact: missing slices are interpolated along the stacking direction
and every slice that lies on the lattice stays as it was; a tilted stack then keeps its slice planes and is moved
within each of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.geometry import Grid
from medseg.readers.dicom.geometry import WHOLE_STEP

if TYPE_CHECKING:
    from medseg.readers.dicom.geometry import StackGeometry

#: Outside the scanned field: air for CT, nothing elsewhere.
_FILL = {"CT": -1024.0}


def fill_gaps(stack: np.ndarray, geometry: StackGeometry) -> np.ndarray:
    """(n, rows, cols) slices at the uneven places `geometry.index` -> (slices, rows, cols) float32 at 0, 1, 2 ...

    Example: slices at 0, 1 and 3 steps: slice 2 becomes the mean of the last two.
    """
    places = np.asarray(geometry.index)
    out = np.empty((geometry.slices, *stack.shape[1:]), np.float32)
    for k in range(geometry.slices):
        after = min(max(int(np.searchsorted(places, k - 1e-6)), 1), len(places) - 1)
        before = after - 1
        weight = np.clip((k - places[before]) / (places[after] - places[before]), 0.0, 1.0)
        weight = round(weight) if abs(weight - round(weight)) < WHOLE_STEP else weight
        out[k] = stack[before] * np.float32(1 - weight) + stack[after] * np.float32(weight)
    return out


def straighten(array: np.ndarray, affine: np.ndarray, modality: str | None) -> tuple[np.ndarray, np.ndarray]:
    """(I, J, K) on a sheared affine -> (I', J', K) float32 and an affine whose third axis is the slices' normal.

    The slices keep their planes and pixels; the field grows in the plane so that no voxel is lost.
    """
    from medseg.resample import resample_image  # numba: only tilted scans pay for it

    source = Grid(array.shape, affine)
    r, c, step = affine[:3, 0], affine[:3, 1], affine[:3, 2]
    normal = np.cross(r, c)
    normal /= np.linalg.norm(normal)
    upright = affine.copy()
    upright[:3, 2] = normal * (step @ normal)
    # In-plane pixel index at which the last slice begins on the upright lattice.
    drift = np.linalg.solve(upright[:3, :3], step * (array.shape[2] - 1))[:2]
    low = np.floor(np.minimum(drift, 0) + 1e-6).astype(int)
    grow = np.ceil(np.abs(drift) - 1e-6).astype(int)
    upright[:3, 3] += upright[:3, 0] * low[0] + upright[:3, 1] * low[1]
    shape = (array.shape[0] + int(grow[0]), array.shape[1] + int(grow[1]), array.shape[2])
    out = resample_image(array, source, Grid(shape, upright), fill=_FILL.get(modality or "", 0.0))
    return out, upright
