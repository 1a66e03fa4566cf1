"""Oracle: the same masks in full volumes."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg.inferers.instances.found import Instances, MaskCrop
from medseg.inferers.instances.pieces import common, is_cut, part, pieces_of, shared_voxels, tight
from medseg.inferers.instances.tiles import View, tiles, whole

LOWS = st.tuples(*[st.integers(0, 9)] * 3)
SHAPE = (16, 16, 16)


def crop(low: tuple, seed: int, shape: tuple = (5, 6, 4)) -> MaskCrop:
    return MaskCrop(low, torch.rand(*shape, generator=torch.Generator().manual_seed(seed)))


def full(low: np.ndarray | tuple, mask: np.ndarray) -> np.ndarray:
    out = np.zeros(SHAPE, bool)
    out[tuple(slice(a, a + n) for a, n in zip(low, mask.shape, strict=True))] = mask
    return out


def view(*crops: MaskCrop, shape: tuple = SHAPE) -> View:
    boxes = torch.tensor([[*c.low, *c.high] for c in crops]).float()
    n = len(crops)
    return View(whole(shape), Instances(boxes, torch.ones(n), torch.zeros(n).long(), list(crops)))


@given(LOWS, st.integers(0, 10**6))
def test_tight_is_the_bounding_box_of_the_likely_voxels(low, seed):
    mask = crop(low, seed)
    start, inside = tight(mask, 0.9)
    values = np.zeros(SHAPE)
    values[tuple(slice(a, b) for a, b in zip(mask.low, mask.high, strict=True))] = mask.probability.numpy()
    expected = values >= min(0.9, values.max() / 2)
    assert np.array_equal(full(start, inside), expected)
    assert np.array_equal(np.argwhere(expected).min(0), start)
    assert np.array_equal(np.argwhere(expected).max(0) + 1, start + inside.shape)


def test_an_unsure_mask_lies_where_it_is_surest():
    mask = torch.full((3, 3, 3), 0.05)
    mask[1, 1, 2] = 0.3
    start, inside = tight(MaskCrop((4, 5, 6), mask))
    assert start.tolist() == [5, 6, 8]
    assert inside.shape == (1, 1, 1)
    assert tight(MaskCrop((4, 5, 6), torch.zeros(3, 3, 3)))[1].size == 0
    assert tight(MaskCrop((4, 5, 6), torch.zeros(0, 0, 0)))[1].size == 0


@given(LOWS, LOWS, LOWS, st.tuples(*[st.integers(0, 12)] * 3), st.integers(0, 10**6))
def test_common_counts_within_a_block(low_a, low_b, low, size, seed):
    a, b = pieces_of([view(crop(low_a, seed), crop(low_b, seed + 1))])
    high = np.add(low, size)
    inside = np.zeros(SHAPE, bool)
    inside[tuple(slice(s, e) for s, e in zip(low, high, strict=True))] = True
    one, other = full(a.low, a.mask), full(b.low, b.mask)
    counted = common(a, b, np.array(low), high)
    assert (counted.first, counted.second) == ((one & inside).sum(), (other & inside).sum())
    assert counted.both == (one & other & inside).sum()
    assert part(a, np.array(low), high).sum() == (one & inside).sum()
    assert shared_voxels(a.low, a.mask, b.low, b.mask) == (one & other).sum()
    if counted.both:
        assert counted.iou == (one & other & inside).sum() / ((one | other) & inside).sum()
        assert counted.iom == counted.both / min(counted.first, counted.second)
    else:
        assert counted.iou == counted.iom == 0


def test_a_block_is_cut_near_inner_faces_only():
    first, second = tiles((30, 8, 8), (20, 8, 8), (10, 0, 0))
    at = np.array

    def cut(tile, low, high):
        return is_cut(tile, at((low, 0, 0)), at((high, 8, 8)))

    assert not cut(first, 0, 18)
    assert cut(first, 0, 19)
    assert cut(first, 5, 20)
    assert cut(second, 11, 15)
    assert not cut(second, 12, 30)


def test_an_instance_of_no_voxels_is_no_piece():
    found = pieces_of([view(crop((1, 2, 3), 0), MaskCrop((1, 2, 3), torch.zeros(2, 2, 2)))])
    assert len(found) == 1
    assert found[0].weight == 1
