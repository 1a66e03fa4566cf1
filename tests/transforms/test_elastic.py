"""Deformation: the spline reproduces linear maps, cutting is exact, labels follow the image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from scipy.interpolate import BSpline
from scipy.ndimage import map_coordinates

from medseg.transforms import RandDeformd
from medseg.transforms.spline import Deformation, control_points, spline_basis
from medseg.transforms.warp import deform, deform_labels


@given(n=st.integers(2, 40), m=st.integers(4, 9))
def test_basis_is_scipys_uniform_cubic_b_spline(n, m):
    knots = np.arange(-3, m + 1)  # one unit a cell, control point j centred at j - 1
    x = np.arange(n) * (m - 3) / (n - 1)
    x[-1] = min(x[-1], m - 3 - 1e-12)
    expected = BSpline.design_matrix(x, knots, 3).toarray()
    np.testing.assert_allclose(spline_basis(n, m).numpy(), expected, atol=1e-6)


@given(
    size=st.tuples(*[st.integers(2, 12)] * 3),
    m=st.integers(4, 7),
    linear=st.lists(st.floats(-2, 2), min_size=12, max_size=12),
)
def test_linear_maps_of_the_control_points_are_reproduced_exactly(size, m, linear):
    a = np.array(linear).reshape(3, 4)
    control = np.einsum("ab,bijk->aijk", a[:, :3], control_points(size, m).numpy()) + a[:, 3].reshape(3, 1, 1, 1)
    found = Deformation(size, torch.from_numpy(control).float()).coordinates.numpy()
    voxels = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1)
    np.testing.assert_allclose(found, voxels @ a[:, :3].T + a[:, 3], atol=2e-4)


def random_deformation(seed: int, size=(9, 10, 11), shape=(12, 11, 10)) -> Deformation:
    cut = RandDeformd(["x"], ["y"], size, prob=1.0, elastic_mm=1.0)
    cut.set_random_state(seed)
    return cut.choose(shape, np.ones(3))


@pytest.mark.parametrize("seed", range(5))
def test_image_equals_scipy_at_the_deformed_coordinates(seed):
    deformation = random_deformation(seed)
    image = torch.randn(1, 12, 11, 10)
    coordinates = deformation.coordinates.permute(3, 0, 1, 2).numpy()
    expected = map_coordinates(image[0].numpy(), coordinates, order=1, mode="grid-constant", cval=0.0)
    np.testing.assert_allclose(deform(image, deformation)[0].numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_labels_take_the_greatest_interpolated_weight(seed):
    deformation = random_deformation(seed)
    labels = torch.randint(0, 4, (1, 12, 11, 10)).float() * 3
    coordinates = deformation.coordinates.permute(3, 0, 1, 2).numpy()
    weight = {
        v: map_coordinates((labels[0].numpy() == v).astype("f4"), coordinates, order=1, mode="grid-constant")
        for v in (3, 6, 9)
    }
    stack = np.stack([1 - sum(weight.values()), *weight.values()])
    clear = np.diff(np.sort(stack, 0)[-2:], axis=0)[0] > 1e-3  # near ties may fall either way
    expected = np.array([0, 3, 6, 9])[stack.argmax(0)]
    found = deform_labels(labels, deformation)[0].numpy()
    assert found.dtype == labels.numpy().dtype
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(found[clear], expected[clear])


@given(shape=st.tuples(*[st.integers(3, 14)] * 3), size=st.tuples(*[st.integers(3, 14)] * 3), seed=st.integers(0, 99))
def test_without_deformation_a_patch_is_cut_or_padded_exactly(shape, size, seed):
    cut = RandDeformd(["image", "label"], "label", size, prob=0.0)
    cut.set_random_state(seed)
    image = torch.arange(1.0, 1 + np.prod(shape)).reshape(1, *shape)
    out = cut({"image": image, "label": (image % 5)})
    inside = out["image"] > 0.5
    assert inside.sum() == np.prod(np.minimum(shape, size))
    np.testing.assert_allclose(out["image"][inside].round() % 5, out["label"][inside], atol=1e-2)
    whole = out["image"][inside]
    torch.testing.assert_close(whole, whole.round(), atol=2e-2, rtol=0)


def test_one_seed_gives_one_patch_and_spacing_keeps_rotations_rigid():
    cut = RandDeformd("image", (), (8, 8, 8), prob=1.0, elastic_mm=0.0, scale=(1.0, 1.0))
    image = MetaTensor(torch.randn(1, 10, 10, 10), affine=torch.diag(torch.tensor([1.0, 1.0, 4.0, 1.0])))
    a, b = (cut.set_random_state(3)({"image": image})["image"] for _ in range(2))
    assert torch.equal(a, b)
    where = cut.set_random_state(3).choose((10, 10, 10), np.array([1.0, 1.0, 4.0])).coordinates.numpy()
    step = np.diff(where, axis=2)[4, 4, 3] * [1, 1, 4]  # one step along the thick axis stays 4 mm long
    assert np.linalg.norm(step) == pytest.approx(4.0, abs=1e-3)


def test_too_few_control_points_are_refused():
    with pytest.raises(ValueError, match="at least 4"):
        spline_basis(5, 3)
