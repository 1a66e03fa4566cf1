from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg.inferers.body import body_box, grow_to_windows, what_to_segment
from medseg.inferers.windows import window_grid


@given(st.lists(st.tuples(*[st.integers(0, n - 1) for n in (2, 2, 9, 8, 7)]), min_size=1, max_size=5))
def test_box_is_that_of_all_voxels_above_the_threshold(places):
    image = torch.full((2, 2, 9, 8, 7), -5.0)
    for place in places:
        image[place] = 1.0
    wanted = tuple(slice(min(p[a] for p in places), max(p[a] for p in places) + 1) for a in (2, 3, 4))
    assert body_box(image, -1.0) == wanted


def test_the_threshold_itself_is_outside_and_nan_is_inside():
    image = torch.zeros(1, 1, 5, 5, 5)
    assert body_box(image, 0.0) is None
    image[0, 0, 1, 2, 3] = torch.nan
    assert body_box(image, 0.0) == (slice(1, 2), slice(2, 3), slice(3, 4))


@given(st.data(), st.integers(4, 40), st.sampled_from([0.0, 0.25, 0.5]), st.integers(0, 9))
def test_growing_keeps_the_body_and_costs_no_window(data, roi, overlap, margin):
    size = data.draw(st.integers(1, 120))
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    (grown,) = grow_to_windows([slice(start, stop)], [size], roi, overlap, margin)
    low, high = max(start - margin, 0), min(stop + margin, size)
    assert 0 <= grown.start <= low
    assert high <= grown.stop <= size
    count = [len(window_grid([n], roi, overlap)) for n in (grown.stop - grown.start, high - low)]
    assert count[0] == count[1]
    grid = window_grid([grown.stop - grown.start], roi, overlap)
    if grown.stop - grown.start < size:  # whole windows: none is pulled back, nothing is padded
        assert grid.pad == ((0, 0),)
        assert grid.starts[0] == tuple(i * max(int(roi * (1 - overlap)), 1) for i in range(len(grid)))


def test_a_small_body_saves_windows_and_says_so():
    image = torch.full((1, 1, 200, 200, 100), -1000.0)
    image[..., 40:150, 60:170, :] = 0
    box, event = what_to_segment(image, -500, (64, 64, 64), 0.25)
    assert [s.stop - s.start for s in box] == [160, 160, 100]
    assert event is not None
    assert event.code == "MS-M221"
    assert event.message == "body box of 160 x 160 x 100 in 200 x 200 x 100 voxels: 18 windows instead of 32"


def test_an_image_without_body_is_segmented_whole():
    box, event = what_to_segment(torch.zeros(1, 1, 20, 20, 20), 0.5, 8, 0.25)
    assert box == (slice(0, 20),) * 3
    assert event is not None
    assert event.code == "MS-M222"


def test_off_means_off():
    assert what_to_segment(torch.zeros(1, 1, 20, 20, 20), None, 8, 0.25) == ((slice(0, 20),) * 3, None)


def test_ct_in_a_large_field_of_air(data):
    nib = pytest.importorskip("nibabel")
    ct = np.asanyarray(nib.load(data("totalseg") / "example_ct_sm.nii.gz").dataobj).astype(np.float32)
    lungs_and_body = ct > -900
    image = torch.full((1, 1, 250, 250, 60), -1024.0)
    image[0, 0, 60 : 60 + ct.shape[0], 70 : 70 + ct.shape[1], 15 : 15 + ct.shape[2]] = torch.from_numpy(ct)
    box, event = what_to_segment(image, -900.0, (64, 64, 32), 0.25)
    assert event is not None
    assert event.code == "MS-M221"
    outside = torch.ones(image.shape[2:], dtype=torch.bool)
    outside[box] = False
    assert not (image[0, 0][outside] > -900).any()
    assert lungs_and_body.any()
    inside, whole = (
        len(window_grid(n, (64, 64, 32), 0.25)) for n in ([s.stop - s.start for s in box], image.shape[2:])
    )
    assert inside <= whole / 2
