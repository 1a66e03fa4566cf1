from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.reports.carried import Stack, carry, index_of
from medseg.reports.case_view import CaseView
from medseg.volume import Volume
from tests.reports.demo_case import affine_of, demo_case

ROOMY = 50_000_000


@pytest.mark.parametrize("kind", ["RAS", "LAS", "oblique"])
def test_what_fits_is_carried_as_it_is_but_for_the_air(kind):
    view = demo_case(kind)
    made = carry(view, most_bytes=ROOMY)
    assert made.notes == ()
    assert made.stack.indices.size < 0.9 * view.segmentation.array.size
    start = np.rint(view.image.grid.to_index(made.stack.image.affine[:3, 3])).astype(int)
    box = tuple(slice(a, a + n) for a, n in zip(start, made.stack.image.grid.shape, strict=True))
    assert np.allclose(view.image.grid.to_world(start), made.stack.image.affine[:3, 3])
    assert np.array_equal(made.stack.image.array, view.image.array[box])
    values = np.array([0, *made.values])
    assert np.array_equal(values[made.stack.indices], view.segmentation.array[box])
    assert (values[made.stack.indices] > 0).sum() == (view.segmentation.array > 0).sum(), "structures stay whole"
    assert np.array_equal(made.stack.maps["entropy"], view.maps["entropy"][box])


def large(noise: int = 40) -> CaseView:
    shape = (96, 96, 80)
    rng = np.random.default_rng(0)
    image = rng.integers(0, noise, shape).astype(np.int16)
    image[4:92, 4:92] += 500
    labels = np.zeros(shape, np.uint16)
    labels[40:52, 40:52, 30:44] = 5
    labels[60, 61, 33] = 900
    entropy = np.zeros(shape, np.float32)
    entropy[45, 46, 37] = 0.8
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    return CaseView("x", Volume(image, affine), Volume(labels, affine), {"entropy": entropy})


def test_what_is_too_large_is_cropped_to_the_structures_first():
    view = large()
    # 40 mm are most of this image: with larger voxels the surroundings are a small part.
    affine = np.diag([-4.0, 4.0, 4.0, 1.0])
    view = replace(view, image=Volume(view.image.array, affine), segmentation=Volume(view.segmentation.array, affine))
    whole = carry(view, most_bytes=ROOMY)
    made = carry(view, most_bytes=whole.size // 2)
    assert made.size <= whole.size // 2
    assert len(made.notes) == 1
    assert "surroundings of the structures" in made.notes[0]
    assert made.stack.image.spacing_mm == (4, 4, 4)
    assert (made.stack.indices > 0).sum() == (view.segmentation.array > 0).sum()


def test_what_is_still_too_large_has_larger_voxels_and_loses_nothing():
    view = large()
    made = carry(view, most_bytes=carry(view, most_bytes=ROOMY).size // 12)
    assert "larger than the scan's" in made.notes[-1]
    assert "mm instead of" in made.notes[-1]
    assert set(np.unique(made.stack.indices)) == {0, 1, 2}, "a structure of one voxel survives"
    assert made.stack.maps["entropy"].max() == pytest.approx(0.8), "so does an uncertainty of one voxel"
    here = made.stack.image.grid.to_world(np.argwhere(made.stack.indices == 2))
    there = view.image.grid.to_world(np.array([60, 61, 33]))
    assert np.abs(here - there).max(axis=1).min() <= max(made.stack.image.spacing_mm)


def test_the_number_of_voxels_is_bounded_too():
    made = carry(large(), most_bytes=ROOMY, most_voxels=50_000)
    assert made.stack.indices.size <= 50_000


@given(st.tuples(*(st.integers(1, 4),) * 3), st.sampled_from(["RAS", "LAS", "oblique"]))
def test_joined_voxels_lie_where_their_parts_lay(factors, kind):
    shape = (7, 9, 8)
    affine = affine_of(kind, shape)
    grid = Volume(np.zeros(shape), affine).grid
    world = grid.to_world(np.moveaxis(np.indices(shape), 0, -1))
    for axis in range(3):
        # A coordinate is its own mean: the joined image must say where its voxels are (whole blocks only).
        stack = Stack(Volume(world[..., axis].astype(np.float32), affine), np.zeros(shape, np.uint8), {})
        small = stack.shrink(factors)
        whole = tuple(slice(0, n // f) for n, f in zip(shape, factors, strict=True))
        at = small.image.grid.to_world(np.moveaxis(np.indices(small.image.grid.shape), 0, -1))[..., axis]
        assert np.allclose(small.image.array[whole], at[whole], atol=1e-3)


def test_more_structures_than_the_viewer_has_colours_for():
    values = tuple(range(1, 301))
    assert max(index_of(values).values()) == 255
    assert index_of(values)[256] == 1
    labels = np.arange(10 * 10 * 4).reshape(10, 10, 4).astype(np.int32)
    view = CaseView("x", Volume(labels.astype(np.int16), np.eye(4)), Volume(labels, np.eye(4)))
    made = carry(view, most_bytes=ROOMY)
    assert made.stack.indices.min() == 0
    assert (made.stack.indices > 0).sum() == labels.size - 1


def test_no_structure_and_no_tissue():
    nothing = Volume(np.zeros((9, 8, 7), np.int16), np.eye(4))
    made = carry(CaseView("x", nothing, nothing), most_bytes=ROOMY)
    assert made.values == ()
    assert made.stack.image.grid.shape == (9, 8, 7)


def test_everything_lies_on_one_grid():
    view = demo_case()
    with pytest.raises(ValueError, match="entropy is"):
        carry(replace(view, maps={"entropy": np.zeros((3, 3, 3), np.float32)}), most_bytes=ROOMY)
    with pytest.raises(ValueError, match="segmentation is"):
        carry(replace(view, segmentation=Volume(np.zeros((3, 3, 3), np.uint8), np.eye(4))), most_bytes=ROOMY)


def test_channels_show_the_first():
    view = demo_case(maps=False)
    both = replace(view, image=Volume(np.stack([view.image.array, view.image.array * 0]), view.image.affine))
    one, two = carry(view, most_bytes=ROOMY), carry(both, most_bytes=ROOMY)
    assert np.array_equal(one.stack.image.array, two.stack.image.array)
