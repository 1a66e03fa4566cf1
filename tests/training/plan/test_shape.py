"""Forms against closed forms: balls, rods, plates, spacing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medseg.training.plan.shape import form_of


def grid(*size):
    return np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in size], indexing="ij")


def test_a_ball_is_one_piece_of_its_radius_and_no_tube():
    x, y, z = grid(31, 31, 31)
    form = form_of(x**2 + y**2 + z**2 <= 10**2, (1, 1, 1))
    assert form.radius_mm == pytest.approx(10, abs=0.7)
    assert sum(form.pieces_ml) == pytest.approx(4 / 3 * math.pi, rel=0.03)
    assert len(form.pieces_ml) == 1
    assert not form.tube
    assert form.size_mm == (21, 21, 21)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 0.5, 2.0)])
def test_a_rod_is_a_tube_of_its_radius(spacing):
    x, y, z = grid(40, 40, 120)
    inside = (x * spacing[0]) ** 2 + (y * spacing[1]) ** 2 <= 3**2
    inside &= np.abs(z * spacing[2]) <= 55
    form = form_of(inside, spacing)
    assert form.tube
    assert form.radius_mm == pytest.approx(3, abs=0.8)


def test_a_bent_vessel_is_a_tube_and_a_plate_is_none():
    angle = np.linspace(0, np.pi, 400)
    mask = np.zeros((90, 60, 12), bool)
    x, y, z = np.meshgrid(*[np.arange(n) for n in mask.shape], indexing="ij")
    for a in angle[::8]:
        mask |= (x - 45 - 38 * np.cos(a)) ** 2 + (y - 8 - 38 * np.sin(a)) ** 2 + (z - 6) ** 2 <= 2.5**2
    assert form_of(mask, (1, 1, 1)).tube
    plate = np.zeros((80, 80, 12), bool)
    plate[4:76, 4:76, 4:8] = True
    assert not form_of(plate, (1, 1, 1)).tube


def test_pieces_are_counted_apart_the_largest_first():
    mask = np.zeros((20, 20, 20), bool)
    mask[1:3, 1:3, 1:3] = True
    mask[8:12, 8:12, 8:12] = True
    form = form_of(mask, (1, 1, 2))
    assert form.pieces_ml == (64 * 2 / 1000, 8 * 2 / 1000)
    assert form.size_mm == (4, 4, 8)
    assert form.voxels == 72


def test_one_voxel_has_a_form_too():
    mask = np.zeros((3, 3, 3), bool)
    mask[1, 1, 1] = True
    form = form_of(mask, (1, 1, 1))
    assert form.radius_mm >= 0.5
    assert not form.tube
