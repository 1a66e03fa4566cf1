"""Oracle: every voxel counted, one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import UsageError
from medseg.inferers.instances.found import Instances, MaskCrop
from medseg.inferers.instances.tiles import block, sampled_views, tiles, views, weight_at, weights, whole


@st.composite
def layouts(draw) -> dict:
    stride = draw(st.sampled_from([1, 2, 4]))
    size = stride * draw(st.integers(1, 6))
    overlap = draw(st.integers(0, size - stride))
    shape = draw(st.tuples(*[st.integers(1, 30)] * 3))
    return {
        "shape": shape,
        "size": size,
        "overlap": overlap,
        "stride": stride,
        "shift": stride * draw(st.integers(0, 9)),
    }


@given(layouts())
def test_cores_fill_the_volume_and_tiles_are_aligned(layout):
    stride, shape = layout["stride"], layout["shape"]
    counted = np.zeros(shape, int)
    for tile in tiles(**layout):
        counted[tuple(slice(a, b) for a, b in zip(tile.core_low, tile.core_high, strict=True))] += 1
        for axis, n in enumerate(shape):
            low, high = tile.low[axis], tile.high[axis]
            assert low % stride == high % stride == 0
            assert high - low == min(layout["size"], -(-n // stride) * stride)
            assert low <= tile.core_low[axis] < tile.core_high[axis] <= min(high, n)
            assert high < n + stride
            assert (tile.ramp_low[axis] > 0) == (low > 0)
            assert tile.ramp_high[axis] == 0 or high < n
    assert (counted == 1).all()


@given(layouts())
def test_neighbours_overlap_by_what_was_asked(layout):
    found = tiles(**layout)
    for axis in range(3):
        spans = sorted({(t.low[axis], t.high[axis]) for t in found})
        assert len(spans) == 1 or all(a[1] - b[0] >= layout["overlap"] for a, b in itertools.pairwise(spans))


def test_worked_example():
    found = tiles((100, 1, 1), (48, 1, 1), (16, 0, 0), stride=(8, 1, 1))
    assert [t.low[0] for t in found] == [0, 32, 56]
    assert [(t.core_low[0], t.core_high[0]) for t in found] == [(0, 40), (40, 68), (68, 100)]


def test_weights_of_tiles_that_overlap_as_asked_add_up_to_one():
    found = tiles((80, 1, 1), (32, 1, 1), (8, 0, 0))
    assert [t.low[0] for t in found] == [0, 24, 48]
    total = sum(weights(t, 0, 0, 80) for t in found)
    torch.testing.assert_close(total, torch.ones(80))


def test_a_weight_falls_towards_inner_faces_only():
    first, *_, last = tiles((80, 1, 1), (32, 1, 1), (8, 0, 0))
    at = torch.tensor([-0.5, 0.0, 0.1, 20.0, 28.0, 30.0, 31.999, 32.5])
    torch.testing.assert_close(
        weight_at(first, 0, at), torch.tensor([0, 0, 1, 1, 0.5, 0.25, 1e-3, 0]), atol=1e-6, rtol=0
    )
    assert weight_at(last, 0, torch.tensor([79.9])).item() == 1
    assert weight_at(whole((4, 5, 6)), 2, torch.tensor([0.1, 3.0, 5.9])).tolist() == [1, 1, 1]


@given(layouts(), st.integers(0, 10**6))
def test_blocks_are_the_image_with_its_edge_repeated(layout, seed):
    image = torch.rand(1, 2, *layout["shape"], generator=torch.Generator().manual_seed(seed))
    for tile in tiles(**layout)[:5]:
        at = [torch.arange(a, b).clamp(max=n - 1) for a, b, n in zip(tile.low, tile.high, layout["shape"], strict=True)]
        expected = image[:, :, at[0]][:, :, :, at[1]][:, :, :, :, at[2]]
        assert torch.equal(block(image, tile), expected)


def brightest(tile: torch.Tensor) -> Instances:
    """One voxel, as an instance that reaches half a voxel further."""
    at = np.unravel_index(int(tile[0, 0].argmax()), tile.shape[2:])
    low = torch.tensor([float(a) for a in at])
    mask = MaskCrop((int(at[0]), int(at[1]), int(at[2])), torch.ones(1, 1, 1))
    return Instances(torch.cat([low - 0.5, low + 1.5])[None], torch.ones(1), torch.zeros(1).long(), [mask])


def test_views_are_in_voxels_of_the_volume():
    image = torch.rand(1, 1, 13, 9, 10, generator=torch.Generator().manual_seed(0))
    over = tiles(image.shape[2:], 8, 4, stride=2)
    seen = list(views(image, brightest, over))
    assert [view.tile for view in seen] == over
    for view in seen:
        inner = tuple(slice(a, min(b, n)) for a, b, n in zip(view.tile.low, view.tile.high, (13, 9, 10), strict=True))
        for mask in view.found.masks:
            assert image[0, 0][mask.low] == image[0, 0][inner].max()
            assert mask.probability.dtype == torch.float16
        assert (view.found.boxes >= 0).all()
        assert (view.found.boxes <= torch.tensor([13, 9, 10, 13, 9, 10])).all()


def test_samples_are_gathered_one_list_each():
    image = torch.rand(1, 1, 13, 9, 10, generator=torch.Generator().manual_seed(0))
    over = tiles(image.shape[2:], 8, 4, stride=2)
    first, second = sampled_views(image, lambda tile: [brightest(tile), brightest(-tile)], over)
    for drawn, alone in ((first, views(image, brightest, over)), (second, views(-image, brightest, over))):
        for a, b in zip(drawn, alone, strict=True):
            assert a.tile == b.tile
            assert torch.equal(a.found.boxes, b.found.boxes)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 12, "stride": 8},
        {"size": 4, "stride": 8},
        {"size": 16, "stride": 8, "overlap": 9},
        {"overlap": -1},
        {"stride": 0},
        {"stride": 4, "shift": 2},
    ],
)
def test_numbers_that_do_not_fit_are_refused(wrong):
    with pytest.raises(UsageError, match="MS-U371 tiles of"):
        tiles(**{"shape": (40, 40, 40), "size": 16, "overlap": 8, "stride": 4} | wrong)
