"""Grids and brute-force answers that the tests of the resampling kernels share."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from medseg.geometry import Grid

#: (20, 22, 9) voxels of 0.8 x 0.9 x 2 mm.
SOURCE = Grid((20, 22, 9), np.array([[0.8, 0, 0, -10], [0, 0.9, 0, 5], [0, 0, 2, 7], [0, 0, 0, 1]]))
#: Another order of axes, one flipped, other spacings, partly outside the source.
TURNED = Grid((17, 19, 12), np.array([[0, 1.1, 0, -11], [-1.3, 0, 0, 20], [0, 0, 1.7, 6], [0, 0, 0, 1]]))
#: The same, tilted: no axis of the one runs along an axis of the other.
OBLIQUE = Grid((17, 19, 12), np.array([[0.1, 1.1, 0, -11], [-1.3, 0, 0.2, 20], [0.3, 0, 1.7, 6], [0, 0, 0, 1]]))


def source_index(source: Grid, target: Grid) -> tuple[np.ndarray, np.ndarray]:
    """(3, I, J, K) source index of each target voxel, clamped, and (I, J, K) whether it lies inside."""
    index = np.moveaxis(np.indices(target.shape), 0, -1)
    x = source.to_index(target.to_world(index))
    last = np.array(source.shape) - 1
    inside = ((x > -0.5 - 1e-6) & (x < last + 0.5 + 1e-6)).all(axis=-1)
    return np.moveaxis(np.clip(x, 0, last), -1, 0), inside


def corners(source: Grid, target: Grid):
    """The eight (index, weight) pairs of every target voxel: ((3, I, J, K) whole, (I, J, K))."""
    x, _ = source_index(source, target)
    lo = np.floor(x).astype(int)
    w = x - lo
    for corner in np.ndindex(2, 2, 2):
        up = np.array(corner)[:, None, None, None]
        index = np.minimum(lo + up, np.array(source.shape)[:, None, None, None] - 1)
        yield index, np.prod(np.where(up == 1, w, 1 - w), axis=0)


@st.composite
def grids(draw: st.DrawFn, largest: int = 9) -> Grid:
    """Small grids with any axis order, flips and spacings."""
    shape = draw(st.tuples(*[st.integers(1, largest)] * 3))
    order = draw(st.permutations(range(3)))
    signs = draw(st.tuples(*[st.sampled_from((-1.0, 1.0))] * 3))
    spacing = draw(st.tuples(*[st.sampled_from((0.5, 0.7, 1.0, 1.3, 3.0))] * 3))
    origin = draw(st.tuples(*[st.integers(-30, 30)] * 3))
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis in range(3):
        affine[order[axis], axis] = signs[axis] * spacing[axis]
    affine[:3, 3] = np.array(origin) / 4
    return Grid(shape, affine)


@st.composite
def turns(draw: st.DrawFn) -> str:
    """Axis codes: one of the 48 ways in which three axes can point."""
    pairs = draw(st.permutations(("RL", "AP", "SI")))
    return "".join(draw(st.sampled_from(pair)) for pair in pairs)
