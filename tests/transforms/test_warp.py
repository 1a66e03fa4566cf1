"""Pulling through a spline: scipy's values, the compiled loop and torch alike, whatever arrays come in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from medseg.transforms import RandDeformd
from medseg.transforms.spline import Deformation, control_points
from medseg.transforms.vote import vote_labels
from medseg.transforms.warp import deform, deform_batch, deform_labels, warp


def random_deformation(seed: int, size=(9, 10, 11), shape=(12, 11, 10)) -> Deformation:
    cut = RandDeformd(["x"], ["y"], size, prob=1.0, elastic_mm=1.0)
    return cut.set_random_state(seed).choose(shape, np.ones(3))


def shifted(size, shift, m: int = 5) -> Deformation:
    return Deformation(size, (control_points(size, m) + torch.tensor(shift).reshape(3, 1, 1, 1)).float())


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


@given(
    seed=st.integers(0, 9999),
    shape=st.tuples(*[st.integers(1, 14)] * 3),
    size=st.tuples(*[st.integers(1, 12)] * 3),
    channels=st.integers(0, 2),
    maps=st.integers(0, 2),
    dtype=st.sampled_from([torch.uint8, torch.int16, torch.int32, torch.int64, torch.float32]),
)
def test_the_compiled_loop_equals_torch(seed, shape, size, channels, maps, dtype):
    deformation = random_deformation(seed, size, shape)
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(channels, *shape, generator=generator)
    labels = torch.randint(0, 4, (maps, *shape), generator=generator).to(dtype)
    found, found_labels = warp(image, labels, deformation)
    expected, expected_labels = deform_batch(image[None], labels[None], [deformation])
    torch.testing.assert_close(found, expected[0], atol=1e-4, rtol=0)
    assert found_labels.dtype == expected_labels.dtype == dtype
    assert found_labels.shape == (maps, *size)
    for c in range(maps):
        for wrong in (found_labels[c] != expected_labels[0, c]).nonzero():  # only where two labels weigh the same
            x, y, z = deformation.coordinates[tuple(wrong)].tolist()
            weights = [_weight(labels[c] == v, x, y, z) for v in range(1, 4)]
            weights = sorted([1 - sum(weights), *weights])
            assert weights[-1] - weights[-2] < 1e-4


def _weight(mask: torch.Tensor, x: float, y: float, z: float) -> float:
    places = np.array([[x], [y], [z]])
    return float(map_coordinates(mask.numpy().astype(float), places, order=1, mode="grid-constant")[0])


def test_a_batch_goes_through_maps_of_its_own():
    deformations = [random_deformation(seed) for seed in range(3)]
    images, labels = torch.rand(3, 2, 12, 11, 10), torch.randint(0, 3, (3, 1, 12, 11, 10), dtype=torch.uint8)
    found, found_labels = deform_batch(images, labels, deformations)
    for b, deformation in enumerate(deformations):
        expected, expected_labels = warp(images[b], labels[b], deformation)
        torch.testing.assert_close(found[b], expected, atol=1e-4, rtol=0)
        assert (found_labels[b] == expected_labels).float().mean() > 0.999


@pytest.mark.gpu
def test_a_gpu_gives_what_the_cpu_gives():
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    deformation = random_deformation(0)
    image, labels = torch.rand(1, 12, 11, 10), torch.randint(0, 3, (1, 12, 11, 10), dtype=torch.uint8)
    expected, expected_labels = warp(image, labels, deformation)
    found, found_labels = warp(image.cuda(), labels.cuda(), deformation)
    torch.testing.assert_close(found.cpu(), expected, atol=1e-4, rtol=0)
    assert (found_labels.cpu() == expected_labels).float().mean() > 0.999


@given(shift=st.tuples(*[st.sampled_from([0.0, 1.0, 2.0, -1.0])] * 3), nudge=st.sampled_from([0, 1e-7, -1e-7, 1e-6]))
def test_voxels_hit_all_but_exactly_keep_their_labels(shift, nudge):
    labels = torch.arange(1, 126, dtype=torch.int32).reshape(1, 5, 5, 5)
    deformation = shifted((5, 5, 5), [s + nudge for s in shift])
    exact = Deformation((5, 5, 5), deformation.control, tuple(int(s) for s in shift))
    expected = warp(labels.float(), labels, exact)
    image, found = warp(labels.float(), labels, deformation)
    torch.testing.assert_close(image, expected[0], atol=1e-2, rtol=0)
    assert torch.equal(found, expected[1])
    assert torch.equal(vote_labels(labels[0], deformation.coordinates), expected[1][0])


@pytest.mark.parametrize("seed", range(4))
def test_only_the_part_that_is_looked_at_is_converted(seed):
    deformation = random_deformation(seed, shape=(40, 30, 35))
    image, labels = torch.randint(-9, 9, (2, 40, 30, 35)), torch.randint(0, 5, (1, 40, 30, 35))
    expected, expected_labels = warp(image.float(), labels.to(torch.int32), deformation)
    for given_image, given_labels in (
        (image.to(torch.int16), labels),
        (image.double(), labels.double()),
        (image.float().transpose(1, 3).contiguous().transpose(1, 3), labels.to(torch.uint8)),
    ):
        found, found_labels = warp(given_image, given_labels, deformation)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
        assert found_labels.dtype == given_labels.dtype
        assert torch.equal(found_labels.to(torch.int32), expected_labels)


def test_a_map_to_nowhere_gives_background():
    far = shifted((4, 4, 4), [99.0, 99.0, -99.0])
    for dtype in (torch.int16, torch.int64):  # as they are, and converted where they are looked at
        image, labels = warp(torch.ones(1, 5, 5, 5), torch.ones(1, 5, 5, 5, dtype=dtype), far)
        assert not image.any()
        assert not labels.any()


def test_threads_change_nothing():
    deformation, before = random_deformation(3), torch.get_num_threads()
    image, labels = torch.rand(1, 12, 11, 10), torch.randint(0, 3, (1, 12, 11, 10))
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(warp(image, labels, deformation))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_image_and_labels_must_lie_on_one_grid():
    with pytest.raises(ValueError, match="one grid"):
        warp(torch.zeros(1, 3, 3, 3), torch.zeros(1, 3, 3, 4), random_deformation(0))
