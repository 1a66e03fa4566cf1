"""Splines: scipy's basis, linear maps exact, derivatives by scipy, and a bound on folding that holds everywhere."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from medseg.transforms.spline import (
    Deformation,
    control_points,
    gradient_hull,
    jacobian_determinant,
    spline_basis,
    strain,
)


def design(n: int, m: int, derivative: int = 0, per_voxel: bool = True) -> np.ndarray:
    """(n, m) by scipy: weights of m control points at n voxels, or of their derivative by the voxel (or cell)."""
    knots = np.arange(-3, m + 1)  # one unit a cell, control point j centred at j - 1
    x = np.arange(n) * (m - 3) / (n - 1)
    x[-1] = min(x[-1], m - 3 - 1e-12)
    spline = BSpline(knots, np.eye(m), 3)
    return spline.derivative()(x) * ((m - 3) / (n - 1) if per_voxel else 1) if derivative else spline(x)


def random_map(seed: int, size=(9, 11, 10), m: int = 6, strength: float = 1.0) -> Deformation:
    noise = np.random.default_rng(seed).normal(0, strength, (3, m, m, m))
    return Deformation(size, (control_points(size, m) + torch.from_numpy(noise)).float())


def gradient(points: np.ndarray, size) -> np.ndarray:
    """(D, H, W, 3, 3) by scipy: change of component a along voxel axis b."""
    m = points.shape[1]
    value = [design(n, m) for n in size]
    rise = [design(n, m, 1) for n in size]
    return np.stack(
        [
            np.einsum("aijk,di,hj,wk->dhwa", points, *[rise[x] if x == b else value[x] for x in range(3)])
            for b in range(3)
        ],
        -1,
    )


@given(n=st.integers(2, 40), m=st.integers(4, 9))
def test_basis_is_scipys_uniform_cubic_b_spline(n, m):
    np.testing.assert_allclose(spline_basis(n, m).numpy(), design(n, m), atol=1e-6)


@given(
    size=st.tuples(*[st.integers(2, 12)] * 3),
    m=st.integers(4, 7),
    linear=st.lists(st.floats(-2, 2), min_size=12, max_size=12),
)
def test_linear_maps_of_the_control_points_are_reproduced_exactly(size, m, linear):
    a = np.array(linear).reshape(3, 4)
    control = np.einsum("ab,bijk->aijk", a[:, :3], control_points(size, m).numpy()) + a[:, 3].reshape(3, 1, 1, 1)
    deformation = Deformation(size, torch.from_numpy(control).float())
    voxels = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1)
    np.testing.assert_allclose(deformation.coordinates.numpy(), voxels @ a[:, :3].T + a[:, 3], atol=2e-4)
    np.testing.assert_allclose(jacobian_determinant(deformation).numpy(), np.linalg.det(a[:, :3]), atol=1e-4)


def test_too_few_control_points_are_refused():
    with pytest.raises(ValueError, match="at least 4"):
        spline_basis(5, 3)


@pytest.mark.parametrize("seed", range(3))
def test_jacobian_is_scipys_derivative(seed):
    deformation = random_map(seed)
    expected = np.linalg.det(gradient(deformation.control.double().numpy(), deformation.size))
    np.testing.assert_allclose(jacobian_determinant(deformation).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("start", [None, (1, -2, 3)])
def test_a_map_comes_back_from_json_bit_for_bit(start):
    before = Deformation((9, 11, 10), random_map(0).control, start)
    after = Deformation.from_json(json.loads(json.dumps(before.to_json())))
    assert torch.equal(before.control, after.control)
    assert (before.size, before.start) == (after.size, after.start)


@given(seed=st.integers(0, 9999), m=st.integers(4, 7))
def test_every_gradient_lies_within_the_hull(seed, m):
    rng = np.random.default_rng(seed)
    noise, size = rng.normal(size=(3, m, m, m)), (13, 11, 9)
    hull = gradient_hull(noise, [(n - 1) / (m - 3) for n in size])
    found = gradient(noise, size).reshape(-1, 3, 3)
    # A weighted mean is nowhere beyond the extremes: entry by entry, in random directions, and in norm.
    for direction in [*np.eye(9).reshape(9, 3, 3), *rng.normal(size=(5, 3, 3))]:
        bounds, values = (hull * direction).sum((1, 2)), (found * direction).sum((1, 2))
        assert bounds.min() - 1e-9 <= values.min()
        assert values.max() <= bounds.max() + 1e-9
    assert np.linalg.norm(found, axis=(1, 2)).max() <= strain(noise, [(n - 1) / (m - 3) for n in size]) + 1e-9


def test_hull_of_a_linear_displacement_is_its_matrix():
    matrix = np.array([[0.1, 0.2, 0.0], [-0.3, 0.05, 0.1], [0.0, 0.4, -0.2]])
    size, m = (10, 12, 14), 6
    hull = gradient_hull(
        np.einsum("ab,bijk->aijk", matrix, control_points(size, m).numpy()), [(n - 1) / 3 for n in size]
    )
    np.testing.assert_allclose(hull, np.broadcast_to(matrix, hull.shape), atol=1e-12)
    assert strain(np.zeros((3, 6, 6, 6)), [1, 1, 1]) == 0


@given(seed=st.integers(0, 9999))
def test_below_a_strain_of_1_the_determinant_keeps_its_bound(seed):
    rng = np.random.default_rng(seed)
    size, m = (16, 14, 12), 6
    step = [(n - 1) / (m - 3) for n in size]
    linear = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.7, 1.4)
    noise = rng.normal(size=(3, m, m, m))
    noise *= 0.95 / strain(noise, step, linear)
    control = np.einsum("ab,bijk->aijk", linear, control_points(size, m).numpy()) + noise
    found = jacobian_determinant(Deformation(size, torch.from_numpy(control).float())) / np.linalg.det(linear)
    assert found.min() >= (1 - 0.95) ** 3
