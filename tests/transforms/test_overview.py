"""The overview: cells of whole voxels, by brute force."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor

from medseg.transforms import Overviewd
from medseg.transforms.overview import cell_affine, overview, whereabouts

FACTORS = st.tuples(*[st.integers(1, 5)] * 3)
SHAPES = st.tuples(*[st.integers(1, 11)] * 3)


def cells_of(shape, factors):
    """Cell -> its voxels."""
    ranges = [range(-(-n // f)) for n, f in zip(shape, factors, strict=True)]
    for cell in itertools.product(*ranges):
        yield cell, tuple(slice(c * f, c * f + f) for c, f in zip(cell, factors, strict=True))


@given(SHAPES, FACTORS, st.integers(0, 99))
def test_a_cell_is_the_mean_of_its_voxels(shape, factors, seed):
    image = torch.randn(1, 2, *shape, generator=torch.Generator().manual_seed(seed))
    small = overview(image, factors)
    cells = list(cells_of(shape, factors))
    assert small.shape[2:] == tuple(n + 1 for n in cells[-1][0])
    for cell, voxels in cells:
        wanted = image[(slice(None), slice(None), *voxels)].mean((2, 3, 4))
        torch.testing.assert_close(small[(slice(None), slice(None), *cell)], wanted)


@given(SHAPES, FACTORS, st.data())
def test_no_structure_is_too_small_to_be_seen_and_its_neighbours_say_so_too(shape, factors, data):
    place = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    inside = torch.zeros(1, 1, *shape, dtype=torch.bool)
    inside[(0, 0, *place)] = True
    own = tuple(p // f for p, f in zip(place, factors, strict=True))
    for cell, _ in cells_of(shape, factors):
        near = all(abs(a - b) <= 1 for a, b in zip(cell, own, strict=True))
        assert bool(whereabouts(inside, factors)[(0, 0, *cell)]) is near


def test_the_centre_of_a_cell_lies_amid_its_voxels():
    affine = torch.tensor(np.array([[0, -2.0, 0.3, 5], [1.5, 0, 0, -7], [0, 0.2, 3, 11], [0, 0, 0, 1]]))
    cells = cell_affine(affine, (2, 3, 4))
    corner = cells @ torch.tensor([1.0, 2, 3, 1], dtype=torch.float64)
    voxels = torch.tensor([[i, j, k, 1.0] for i in (2, 3) for j in (6, 7, 8) for k in (12, 13, 14, 15)]).double()
    torch.testing.assert_close(corner, (affine @ voxels.T).mean(1))


def test_the_transform_adds_both_and_leaves_the_rest():
    label = torch.zeros(1, 8, 8, 6)
    label[0, 0, 0, 0], label[0, 7, 7, 5] = 1, 9
    image = MetaTensor(torch.randn(2, 8, 8, 6), affine=torch.diag(torch.tensor([1.0, 1, 2, 1])))
    made = Overviewd(factors=(4, 4, 2), values=[1])({"image": image, "label": label, "other": label})
    assert set(made) == {"image", "label", "other", "overview", "whereabouts"}
    assert made["overview"].shape == (2, 2, 2, 3)
    assert isinstance(made["overview"], MetaTensor)
    assert made["overview"].affine.diag().tolist() == [4, 4, 4, 1]
    assert made["whereabouts"][0, 0, 0].tolist() == [1, 1, 0]
    assert not made["whereabouts"][0, :, :, 2].any()  # 9 is no structure here
    assert Overviewd(factors=(4, 4, 2))({"image": image, "label": label})["whereabouts"][0, 1, 1, 2] == 1
