"""Small masks for the tests of surfaces."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st


def box(i, j, k):
    """Index of a single voxel, as slices."""
    return np.s_[i : i + 1, j : j + 1, k : k + 1]


def ball(shape, centre, radius_mm, spacing_mm):
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    return sum(((x - c) * s) ** 2 for x, c, s in zip(axes, centre, spacing_mm, strict=True)) <= radius_mm**2


SPACINGS = st.sampled_from([0.3, 0.4, 0.7, 1.0, 1.2, 2.5, 3.0, 5.0])


@st.composite
def masks(draw, shape, empty):
    """Nothing, single voxels, noise, blocks or everything; they touch the array's border as often as not."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["empty", "voxel", "noise", "dense", "blocks", "full"]))
    mask = np.zeros(shape, bool)
    if kind in ("noise", "dense"):
        mask[:] = rng.random(shape) < (0.1 if kind == "noise" else 0.8)
    elif kind == "blocks":
        for _ in range(rng.integers(1, 4)):
            low = [rng.integers(0, n) for n in shape]
            mask[tuple(slice(a, rng.integers(a, n) + 1) for a, n in zip(low, shape, strict=True))] = True
    mask[...] |= kind == "full"
    if kind == "voxel" or not (empty or mask.any()):
        mask[tuple(rng.integers(0, n) for n in shape)] = True
    return mask


@st.composite
def pairs(draw, *, empty=True):
    """(pred, ref, spacing_mm), in C or Fortran order, now and then longer than a word of 64 voxels."""
    shape = draw(st.tuples(*[st.integers(1, 8)] * 3) | st.tuples(st.just(2), st.just(3), st.integers(62, 131)))
    if draw(st.booleans()):
        shape = shape[::-1]
    pred, ref = draw(masks(shape, empty)), draw(masks(shape, empty))
    if draw(st.booleans()):
        pred, ref = np.asfortranarray(pred), np.asfortranarray(ref)
    return pred, ref, draw(st.tuples(SPACINGS, SPACINGS, SPACINGS))
