from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.path import Path as MplPath
from skimage.draw import polygon2mask
from skimage.measure import find_contours

from medseg.readers.dicom.polygons import fill_polygons

GRID = np.stack(np.meshgrid(np.arange(40), np.arange(50), indexing="ij"), axis=-1).reshape(-1, 2)


def circle(centre, radius, n=720):
    turn = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.stack([centre[0] + radius * np.cos(turn), centre[1] + radius * np.sin(turn)], axis=1)


@pytest.mark.parametrize(
    ("low", "high", "count"), [(0, 2, 9), (0.5, 1.5, 1), (0.5, 2.5, 4), (-0.4, 0.4, 1), (0.1, 0.9, 0), (-9, 90, 2000)]
)
def test_squares_cover_the_centres_inside_and_on_them(low, high, count):
    square = np.array([[low, low], [high, low], [high, high], [low, high]])
    assert fill_polygons([square], (40, 50))[0].sum() == count
    assert fill_polygons([square[::-1]], (40, 50))[0].sum() == count


def test_random_stars_against_matplotlib():
    random = np.random.default_rng(0)
    for _ in range(30):
        turn = np.sort(random.uniform(0, 2 * np.pi, 12))
        star = np.array([20.3, 25.1]) + random.uniform(3, 24, (12, 1)) * np.stack([np.cos(turn), np.sin(turn)], axis=1)
        expected = MplPath(star).contains_points(GRID).reshape(40, 50)
        mask, border = fill_polygons([star], (40, 50))
        np.testing.assert_array_equal(mask & ~border, expected & ~border)
        np.testing.assert_array_equal(mask, polygon2mask((40, 50), star) | border)
        assert border.sum() < 5


def test_annulus_has_its_area_and_an_island_in_the_hole_counts():
    outer, hole, island = circle((250, 250), 200), circle((250, 250), 120), circle((250, 250), 40)
    ring = fill_polygons([outer, hole], (500, 500))[0]
    assert ring.sum() == pytest.approx(np.pi * (200**2 - 120**2), rel=2e-3)
    assert not ring[250, 250]
    both = fill_polygons([island, outer, hole], (500, 500))[0]
    assert both.sum() == pytest.approx(np.pi * (200**2 - 120**2 + 40**2), rel=2e-3)
    assert both[250, 250]


def test_keyhole_outline_equals_two_outlines():
    outer, hole = circle((20, 25), 15.2), circle((20, 25), 7.3)
    keyhole = np.concatenate([outer, outer[:1], hole[::-1][-1:], hole[::-1], hole[::-1][-1:], outer[:1]])
    channel = np.concatenate([outer, outer[:1], np.roll(hole[::-1], 1, axis=0), hole[:1]])
    expected = fill_polygons([outer, hole], (40, 50))[0]
    # The channel runs along row 25 exactly, through tissue: its centres are inside either way.
    np.testing.assert_array_equal(fill_polygons([channel], (40, 50))[0], expected)
    assert fill_polygons([keyhole], (40, 50))[0].sum() == pytest.approx(expected.sum(), abs=8)


@given(arrays(bool, (9, 11)))
def test_outlines_half_way_between_pixels_give_the_mask_back(mask):
    padded = np.pad(mask, 2)
    outlines = find_contours(padded.astype(float), 0.5)
    if not outlines:
        return
    np.testing.assert_array_equal(fill_polygons(outlines, padded.shape)[0], padded)


@given(arrays(bool, (7, 8)), st.integers(2, 4))
def test_outlines_through_the_border_pixels_give_blocks_back(mask, size):
    block = np.kron(mask, np.ones((size, size))).astype(bool)
    rows = [
        np.array([[i, j], [i + size - 1, j], [i + size - 1, j + size - 1], [i, j + size - 1]]) * 1.0
        for i, j in np.argwhere(mask) * size
    ]
    if rows:
        np.testing.assert_array_equal(fill_polygons(rows, block.shape)[0], block)


@given(st.floats(0, 2 * np.pi), st.floats(0.5, 12), st.floats(-3, 43), st.floats(-3, 53))
def test_triangles_are_inside_their_hull_and_independent_of_the_first_corner(turn, size, a, b):
    corners = np.array([[a, b]]) + size * np.stack(
        [np.cos(turn + np.arange(3) * 2), np.sin(turn + np.arange(3) * 2)], 1
    )
    mask, border = fill_polygons([corners], (40, 50))
    for shift in (1, 2):
        np.testing.assert_array_equal(fill_polygons([np.roll(corners, shift, axis=0)], (40, 50))[0], mask)
    where = np.argwhere(mask)
    assert (where >= corners.min(axis=0) - 1e-2).all()
    assert (where <= corners.max(axis=0) + 1e-2).all()
    assert (mask | ~border).all()
