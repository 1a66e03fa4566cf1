"""The vote of eight voxels equals interpolating every label's own mask and taking the greatest."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from medseg.transforms.elastic import RandDeformd
from medseg.transforms.vote import vote_labels
from medseg.transforms.warp import _to_grid_sample


def by_masks(labels: torch.Tensor, coordinates: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One full mask a label through grid_sample: the label, and by how much its weight beats the second."""
    where = _to_grid_sample(coordinates[None], labels.shape)
    values = [v for v in labels.unique().tolist() if v]
    weights = [
        torch.nn.functional.grid_sample((labels == v)[None, None].float(), where, align_corners=False) for v in values
    ]
    stack = torch.cat([1 - sum(weights, torch.zeros(1, 1, *coordinates.shape[:3])), *weights], 1)[0]
    two = stack.topk(min(2, len(stack)), 0).values
    lead = two[0] - two[1] if len(two) > 1 else torch.ones_like(two[0])
    return torch.tensor([0, *values])[stack.argmax(0)], lead


def blobs(shape, count: int, seed: int) -> torch.Tensor:
    """Every voxel belongs to the nearest of `count` seeds, a third of them background: instances that touch."""
    rng = np.random.default_rng(seed)
    seeds = rng.random((count * 3 // 2, 3)) * shape
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    nearest = ((grid[..., None, :] - seeds) ** 2).sum(-1).argmin(-1)
    return torch.from_numpy(np.where(nearest < count, nearest + 1, 0).astype(np.int16))


@pytest.mark.parametrize("count", [5, 60, 400])
def test_it_equals_one_mask_for_each_of_many_instances(count):
    labels = blobs((24, 22, 20), count, count)
    cut = RandDeformd("x", (), (20, 24, 18), prob=1.0).set_random_state(count)
    coordinates = cut.choose(labels.shape, np.ones(3)).coordinates
    expected, lead = by_masks(labels, coordinates)
    found = vote_labels(labels, coordinates)
    assert found.dtype == torch.int16
    clear = lead > 1e-4  # near ties may fall either way
    assert clear.float().mean() > 0.99
    assert torch.equal(found[clear].long(), expected[clear])
    assert len(found.unique()) > count // 3


@given(
    shape=st.tuples(*[st.integers(1, 4)] * 3),
    seed=st.integers(0, 999),
    dtype=st.sampled_from([torch.uint8, torch.int16, torch.int32, torch.int64, torch.float32]),
)
def test_it_equals_scipys_weights_also_outside(shape, seed, dtype):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, shape)
    places = rng.uniform(-1.5, 5, (3, 3, 3, 3)).astype(np.float32)
    stack = np.stack(
        [map_coordinates((labels == v).astype(float), np.moveaxis(places, -1, 0), order=1, mode="grid-constant")
         for v in (1, 2, 3)]
    )  # fmt: skip
    stack = np.concatenate([1 - stack.sum(0, keepdims=True), stack])
    found = vote_labels(torch.from_numpy(labels).to(dtype), torch.from_numpy(places))
    assert found.dtype == dtype
    best = np.take_along_axis(stack, found.numpy().astype(int)[None], 0)[0]
    np.testing.assert_allclose(best, stack.max(0), atol=1e-5)


def test_on_voxels_it_copies_and_far_outside_or_at_nan_it_is_background():
    labels = torch.arange(1, 28, dtype=torch.int32).reshape(3, 3, 3)
    grid = torch.stack(torch.meshgrid(*[torch.arange(3.0)] * 3, indexing="ij"), -1)
    assert torch.equal(vote_labels(labels, grid), labels)
    assert torch.equal(vote_labels(labels, grid + 1)[:2, :2, :2], labels[1:, 1:, 1:])
    assert not vote_labels(labels, grid + 1e9).any()
    assert not vote_labels(labels, grid * torch.nan).any()


def test_ties_go_to_the_smaller_label():
    labels = torch.tensor([7, 5, 0]).reshape(3, 1, 1)
    halves = torch.tensor([[0.5, 0, 0], [1.5, 0, 0], [0.49, 0, 0]]).reshape(3, 1, 1, 3)
    assert vote_labels(labels, halves).flatten().tolist() == [5, 0, 7]


def test_threads_change_nothing():
    labels, before = blobs((12, 12, 12), 9, 0), torch.get_num_threads()
    places = torch.rand(16, 12, 12, 3) * 13 - 1
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(vote_labels(labels, places))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)
