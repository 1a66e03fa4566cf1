"""Filling gaps and straightening tilts reproduce linear fields exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.geometry import Grid
from medseg.readers.dicom.geometry import StackGeometry
from medseg.readers.dicom.regular import fill_gaps, straighten


@given(places=st.sets(st.integers(1, 12), min_size=1, max_size=8), seed=st.integers(0, 99))
def test_gaps_are_filled_linearly_and_known_slices_kept(places, seed):
    index = (0.0, *map(float, sorted(places)))
    slices = np.random.default_rng(seed).normal(size=(len(index), 2, 3)).astype(np.float32)
    out = fill_gaps(slices, StackGeometry("gapped", np.eye(4), index=index))
    assert out.shape[0] == int(index[-1]) + 1
    expected = np.stack([np.interp(np.arange(len(out)), index, column) for column in slices.reshape(len(index), -1).T])
    assert pytest.approx(expected, abs=1e-6) == out.reshape(len(out), -1).T
    assert np.array_equal(out[[int(i) for i in index]], slices)


@pytest.mark.parametrize("lean", [(0.0, 0.3), (0.0, -0.3), (0.4, 0.0), (-0.2, 0.25)])
def test_straightened_in_either_direction(lean):
    affine = np.array([[2.0, 0, lean[0] * 4, -7], [0, 3, lean[1] * 4, 5], [0, 0, 4, 1], [0, 0, 0, 1]])
    shape = (9, 8, 6)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    weights = np.array([1.0, -2.0, 0.5])
    array = (Grid(shape, affine).to_world(index) @ weights).astype(np.float32)
    out, upright = straighten(array, affine, "MR")
    grid = Grid(out.shape, upright)
    assert grid.shear_deg < 1e-9
    at = Grid(shape, affine).to_index(
        grid.to_world(np.stack(np.meshgrid(*map(np.arange, out.shape), indexing="ij"), -1))
    )
    inside = ((at >= -1e-6) & (at <= np.array(shape) - 1 + 1e-6)).all(-1)
    expected = grid.to_world(np.argwhere(inside)) @ weights
    assert out[inside] == pytest.approx(expected, abs=1e-3)
    corners = grid.to_index(Grid(shape, affine).corners_mm)
    assert corners.min() > -1e-6
    assert (corners <= np.array(out.shape) - 1 + 1e-6).all()
    assert (np.array(out.shape) - np.array(shape))[2] == 0
