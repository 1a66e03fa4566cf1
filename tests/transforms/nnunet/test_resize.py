"""Oracle: nnU-Net's own procedure written out with skimage and scipy (`resample_data_or_seg`)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from skimage.transform import resize as skimage_resize

from medseg.transforms.nnunet.resize import Resizing, new_shape, resize, thick_axis


def written_out(image: np.ndarray, shape: tuple[int, ...], order: int, order_z: int, thick: int) -> np.ndarray:
    """Every plane by itself with skimage, then across the planes with scipy."""
    planes = np.moveaxis(image.astype(float), thick, 0)
    wanted = [n for axis, n in enumerate(shape) if axis != thick]
    done = np.stack([skimage_resize(plane, wanted, order, mode="edge", anti_aliasing=False) for plane in planes])
    place = len(planes) / shape[thick] * (np.arange(shape[thick]) + 0.5) - 0.5
    at = np.stack(np.meshgrid(place, *(np.arange(n) for n in wanted), indexing="ij"))
    return np.moveaxis(map_coordinates(done, at, order=order_z, mode="nearest"), 0, thick)


@pytest.mark.parametrize("thick", [0, 1, 2])
@pytest.mark.parametrize("order_z", [0, 1, 3])
def test_a_thick_axis_is_resized_plane_by_plane(thick, order_z):
    image = np.random.default_rng(1).normal(size=(7, 9, 8)).astype(np.float32)
    shape = tuple(11 if axis == thick else n for axis, n in enumerate((5, 13, 10)))
    want = written_out(image, shape, 3, order_z, thick)
    got = resize(image, shape, Resizing(order_z=order_z), thick)
    np.testing.assert_allclose(got, want, atol=3e-5)


def test_without_a_thick_axis_it_is_skimages_clipped_cubic():
    image = np.random.default_rng(2).normal(size=(7, 9, 8)).astype(np.float32)
    want = skimage_resize(image.astype(float), (9, 6, 12), 3, mode="edge", anti_aliasing=False)
    got = resize(image, (9, 6, 12), Resizing(), None)
    np.testing.assert_allclose(got, want, atol=3e-5)
    assert got.max() <= image.max()
    overshoot = resize(image, (9, 6, 12), Resizing(clip=False), None)
    assert overshoot.max() > image.max()


def test_nothing_is_done_where_nothing_changes():
    image = np.ones((3, 4, 5), np.float32)
    assert resize(image, (3, 4, 5), Resizing(), 1) is image
    assert resize(image, (6, 4, 5), Resizing(order=None), None) is image


@pytest.mark.parametrize(
    ("before", "after", "how", "axis"),
    [
        ((0.5, 0.5, 3), (1, 1, 1), Resizing(), 2),
        ((1, 1, 1), (3.5, 1, 1), Resizing(), 0),
        ((0.5, 3, 3), (1, 1, 1), Resizing(), None),  # two axes share the largest spacing
        ((1, 1, 3), (1, 1, 1), Resizing(), None),  # not more than three times
        ((1, 1, 3), (1, 1, 1), Resizing(threshold=2.5), 2),
        ((0.5, 0.5, 3), (1, 1, 1), Resizing(separate=False), None),
        ((1, 1, 1.2), (1, 1, 1), Resizing(separate=True), 2),
        ((1, 1, 1), (1, 1, 5), Resizing(separate=True), None),  # forced: the spacing before alone decides
    ],
)
def test_which_axis_is_taken_apart(before, after, how, axis):
    assert thick_axis(before, after, how) == axis


def test_shapes_round_to_the_nearest_and_never_to_0():
    assert new_shape((11, 5, 1), (0.7, 0.5, 0.2), (1, 1, 1)) == (8, 2, 1)  # 7.7, 2.5 (halves to even), 0.2
