"""Oracle: MONAI's own positions, computed as sliding_window_inference does."""

from __future__ import annotations

from itertools import pairwise
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from monai.data.utils import dense_patch_slices
from monai.inferers.utils import _get_scan_interval

from medseg.errors import UsageError
from medseg.inferers.windows import by, even_starts, window_grid, windows_to_cover

SHAPES = st.tuples(*[st.integers(1, 70)] * 3)
ROIS = st.tuples(*[st.integers(1, 40)] * 3)
OVERLAPS = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.625]), st.tuples(*[st.floats(0, 0.9)] * 3))


@given(SHAPES, ROIS, OVERLAPS)
def test_positions_are_monais(image, roi, overlap):
    padded = tuple(map(max, image, roi))
    overlaps = overlap if isinstance(overlap, tuple) else (overlap,) * 3
    theirs = dense_patch_slices(padded, roi, _get_scan_interval(padded, roi, 3, overlaps))
    grid = window_grid(image, roi, overlap)
    ours = list(grid.positions())
    assert len(grid) == len(ours)
    assert sorted(ours) == sorted(tuple(s.start for s in window) for window in theirs)
    if grid.axis == 0:  # then in MONAI's order, too
        assert ours == [tuple(s.start for s in window) for window in theirs]


@given(SHAPES, ROIS, OVERLAPS)
def test_the_walk_goes_forward_and_leaves_no_voxel_out(image, roi, overlap):
    grid = window_grid(image, roi, overlap)
    along = [start[grid.axis] for start in grid.positions()]
    assert along == sorted(along)
    for n, r, starts in zip(grid.padded, grid.roi, grid.starts, strict=True):
        assert {v for s in starts for v in range(s, s + r)} == set(range(n))


@given(SHAPES, ROIS)
def test_padding_is_half_on_each_side_the_odd_voxel_behind(image, roi):
    grid = window_grid(image, roi, 0.25)
    for n, r, (before, after), padded in zip(image, roi, grid.pad, grid.padded, strict=True):
        assert padded == max(n, r) == n + before + after
        assert after - before in (0, 1)


def test_worked_example():
    grid = window_grid((150, 64, 50), (64, 64, 64), 0.25)
    assert grid.starts == ((0, 48, 86), (0,), (0,))
    assert grid.pad == ((0, 0), (0, 0), (7, 7))
    assert grid.slab == (64, 64, 64)


def test_windows_of_nnunet():
    assert even_starts(110, 64, 32) == (0, 23, 46)  # the example in its own source
    assert window_grid((110, 64, 150), 64, 0.5, spread=True).starts == ((0, 23, 46), (0,), (0, 29, 57, 86))


@given(SHAPES, ROIS, st.sampled_from([0.25, 0.5, 0.75]))
def test_spread_windows_cover_everything_and_are_no_further_apart_than_wanted(image, roi, overlap):
    grid = window_grid(image, roi, overlap, spread=True)
    for n, r, starts in zip(grid.padded, grid.roi, grid.starts, strict=True):
        assert (starts[0], starts[-1]) == (0, n - r)
        steps = [b - a for a, b in pairwise(starts)]
        apart = max(r * (1 - overlap), 1)
        assert all(0 < step < apart + 1 for step in steps)
        assert max(steps, default=0) - min(steps, default=0) <= 1
        assert len(starts) == ceil((n - r) / apart) + 1


def test_a_component_that_is_not_positive_takes_the_images_size():
    assert window_grid((30, 40, 50), (16, -1, 0), 0.25).roi == (16, 40, 50)
    assert window_grid((30, 40, 50), (None, 20, 20), 0.25).roi == (30, 20, 20)


def test_walks_along_the_axis_that_keeps_the_smallest_slab_open():
    assert window_grid((100, 100, 400), 64, 0.25).axis == 2
    assert window_grid((100, 100, 110), 64, 0.25).axis == 0  # too little saved to leave the contiguous axis
    assert window_grid((100, 100, 400), 64, 0.25).slab == (100, 100, 64)


@pytest.mark.parametrize("overlap", [-0.1, 1.0, (0.5, 0.5, 2)])
def test_an_impossible_overlap_is_refused(overlap):
    with pytest.raises(UsageError, match=r"MS-U141 overlap is"):
        window_grid((30, 30, 30), 16, overlap)


def test_a_window_of_other_dimensions_is_refused():
    with pytest.raises(
        UsageError, match=r"MS-U141 the window \(16, 16\) has 2 axes and the image \(30, 30, 30\) has 3"
    ):
        window_grid((30, 30, 30), (16, 16), 0.25)


@given(st.integers(1, 500), st.integers(1, 100), st.data())
def test_windows_to_cover_is_what_the_grid_has(extent, roi, data):
    interval = data.draw(st.integers(1, roi))
    n = windows_to_cover(extent, roi, interval)
    assert roi + (n - 1) * interval >= extent
    assert n == 1 or roi + (n - 2) * interval < extent


def test_a_shape_in_words():
    assert by((96, 64, 8)) == "96 x 64 x 8"
