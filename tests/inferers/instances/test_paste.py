"""Oracles: torch's interpolate and grid_sample, RoIAlign's rule written out, and a volume for each instance."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import grid_sample, interpolate

from medseg.errors import UsageError
from medseg.inferers.instances.found import Instances, MaskCrop, nothing
from medseg.inferers.instances.paste import _by_products, label_map, paste, paste_all

SHAPE = (20, 22, 24)
EDGES = st.floats(-6, 26, allow_nan=False)


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def box_of(low: tuple, size: tuple) -> torch.Tensor:
    return torch.tensor([*low, *(a + b for a, b in zip(low, size, strict=True))], dtype=torch.float64)


def voxel_by_voxel(mask: torch.Tensor, box: torch.Tensor, shape: tuple) -> np.ndarray:
    """The rule of paste.py in plain loops over a full volume; nan where nothing is written."""
    out = np.full(shape, np.nan)
    m, low, high = mask.numpy(), box[:3].numpy(), box[3:].numpy()
    for index in np.ndindex(*shape):
        centre = np.array(index) + 0.5
        if not ((centre >= low) & (centre < high)).all():
            continue
        place = np.clip((centre - low) * m.shape / (high - low) - 0.5, 0, np.array(m.shape) - 1)
        first = np.minimum(place.astype(int), np.maximum(np.array(m.shape) - 2, 0))
        out[index] = 0.0
        for corner in np.ndindex(2, 2, 2):
            share = np.where(corner, place - first, 1 - (place - first))
            if share.all():
                out[index] += share.prod() * m[tuple(first + corner)]
    return out


@given(st.tuples(*[st.floats(-4, 9)] * 3), st.tuples(*[st.floats(2, 9)] * 3), st.tuples(*[st.integers(1, 5)] * 3))
def test_equals_the_rule_written_out(low, size, cells):
    mask, box, shape = rand(*cells), box_of(low, size), (9, 8, 7)
    ours = np.full(shape, np.nan)
    crop = paste(mask, box, shape)
    if crop.probability.numel():
        ours[tuple(slice(a, b) for a, b in zip(crop.low, crop.high, strict=True))] = crop.probability.numpy()
    np.testing.assert_allclose(ours, voxel_by_voxel(mask, box, shape), atol=1e-12)


@given(st.tuples(*[st.integers(0, 8)] * 3), st.tuples(*[st.integers(1, 12)] * 3), st.integers(1, 7))
def test_a_box_of_whole_voxels_gives_what_interpolate_gives(low, size, cells):
    mask = rand(cells, cells, cells)
    crop = paste(mask, box_of(low, size), SHAPE)
    theirs = interpolate(mask[None, None], size=size, mode="trilinear", align_corners=False)[0, 0]
    assert crop.low == low
    torch.testing.assert_close(crop.probability, theirs, rtol=0, atol=1e-12)


@given(st.tuples(*[st.floats(0, 8)] * 3), st.tuples(*[st.floats(1, 12)] * 3))
def test_any_box_gives_what_grid_sample_gives(low, size):
    mask, box = rand(5, 6, 7), box_of(low, size)
    crop = paste(mask, box, SHAPE)
    at = [torch.arange(a, b, dtype=torch.float64) + 0.5 for a, b in zip(crop.low, crop.high, strict=True)]
    unit = [2 * (x - a) / s - 1 for x, a, s in zip(at, low, size, strict=True)]
    grid = torch.stack(torch.meshgrid(*unit, indexing="ij")[::-1], -1)
    theirs = grid_sample(mask[None, None], grid[None], padding_mode="border", align_corners=False)[0, 0]
    torch.testing.assert_close(crop.probability, theirs, rtol=0, atol=1e-12)


def test_worked_example():
    crop = paste(torch.tensor([0.0, 1.0]).view(2, 1, 1), torch.tensor([2.0, 0, 0, 6, 1, 1]), (9, 1, 1))
    assert crop.low == (2, 0, 0)
    assert crop.probability.flatten().tolist() == [0, 0.25, 0.75, 1]


def test_as_many_cells_as_voxels_gives_the_mask_itself():
    mask = rand(4, 5, 6).float()
    assert torch.equal(paste(mask, box_of((3, 2, 1), (4, 5, 6)), SHAPE).probability, mask)


@pytest.mark.parametrize("size", [3, 4, 6, 9, 14, 28, 40])
@pytest.mark.parametrize("solid", ["cube", "ball", "tube"])
def test_undoes_roi_align(solid, size):
    n, low, cells, samples = size + 6, 3.0, 28, 2
    axis = torch.arange(n, dtype=torch.float64) - low - size / 2 + 0.5
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    truth = (z.abs() < size / 2) & (y.abs() < size / 2) & (x.abs() < size / 2)
    if solid == "ball":
        truth = z**2 + y**2 + x**2 <= size**2 / 4
    if solid == "tube":
        truth &= (z**2 + y**2 <= size**2 / 4) & (z**2 + y**2 >= size**2 / 25)
    place = low + (torch.arange(cells * samples) + 0.5) * size / (cells * samples) - 0.5
    hats = (1 - (place[:, None] - torch.arange(n)).abs()).clamp(min=0).view(cells, samples, n).mean(1)
    target = torch.einsum("abc,za,yb,xc->zyx", truth.double(), *[hats.double()] * 3)
    crop = paste(target, box_of((low,) * 3, (size,) * 3), (n,) * 3)
    back = torch.zeros_like(truth)
    back[tuple(slice(a, b) for a, b in zip(crop.low, crop.high, strict=True))] = crop.probability >= 0.5
    assert (back & truth).sum() / (back | truth).sum() > 0.99


@given(st.tuples(*[st.floats(1, 5)] * 3), st.tuples(*[st.floats(1, 8)] * 3), st.tuples(*[st.integers(-2, 6)] * 3))
def test_whole_voxels_further_gives_the_same_values(low, size, by):
    mask, box = rand(4, 4, 4), box_of(low, size)
    here, there = paste(mask, box, (40,) * 3), paste(mask, box + 8 + torch.tensor([*by, *by]), (40,) * 3)
    assert there.low == tuple(a + 8 + b for a, b in zip(here.low, by, strict=True))
    torch.testing.assert_close(here.probability, there.probability, rtol=0, atol=1e-9)


@given(st.permutations([0, 1, 2]), st.lists(st.integers(0, 2), unique=True))
def test_axes_may_be_swapped_and_turned_around(order, turned):
    mask, low, size = rand(3, 4, 5), (2.3, 3.4, 4.8), (5.6, 6.2, 7.3)
    plain = paste(mask, box_of(low, size), SHAPE).probability
    swapped = paste(
        mask.permute(order), box_of([low[i] for i in order], [size[i] for i in order]), [SHAPE[i] for i in order]
    )
    torch.testing.assert_close(swapped.probability, plain.permute(order))
    if turned:
        far = [SHAPE[i] - low[i] - size[i] if i in turned else low[i] for i in range(3)]
        torch.testing.assert_close(paste(mask.flip(turned), box_of(far, size), SHAPE).probability, plain.flip(turned))


def test_many_at_once_are_each_alone():
    masks, lows = rand(300, 3, 4, 5), rand(300, 3, seed=1) * 30 - 6
    boxes = torch.cat([lows, lows + rand(300, 3, seed=2) * 9], 1)
    together = paste_all(masks, boxes, SHAPE)
    assert len(together) == 300
    for n in range(0, 300, 7):
        alone = paste(masks[n], boxes[n], SHAPE)
        assert together[n].low == alone.low
        torch.testing.assert_close(together[n].probability, alone.probability, rtol=0, atol=1e-12)


@given(st.integers(0, 10**6), st.tuples(*[st.integers(1, 6)] * 3))
def test_an_accelerator_would_write_the_same(seed, cells):
    """Its matrix products, here on the CPU."""
    n = 7
    lows = rand(n, 3, seed=seed) * 30 - 6
    boxes = torch.cat([lows, lows + rand(n, 3, seed=seed + 1) * 9], 1)
    boxes[3] = boxes[3].flip(0)
    boxes[5, 2] = float("nan")
    masks = rand(n, *cells, seed=seed + 2)
    for a, b in zip(_by_products(masks, boxes, SHAPE), paste_all(masks, boxes, SHAPE), strict=True):
        assert a.low == b.low
        torch.testing.assert_close(a.probability, b.probability, rtol=0, atol=1e-9)


@pytest.mark.gpu
def test_an_accelerator_writes_the_same():
    lows = rand(300, 3, seed=1) * 30 - 6
    boxes = torch.cat([lows, lows + rand(300, 3, seed=2) * 9], 1)
    masks = rand(300, 28, 28, 28).float()
    for a, b in zip(paste_all(masks.cuda(), boxes.cuda(), SHAPE), paste_all(masks, boxes, SHAPE), strict=True):
        assert a.low == b.low
        assert a.probability.is_cuda
        torch.testing.assert_close(a.probability.cpu(), b.probability, rtol=0, atol=2e-3)  # TF32 may be on


@pytest.mark.parametrize(
    "box",
    [
        (3, 3, 3, 3, 6, 6),
        (6, 6, 6, 3, 3, 3),
        (3, 3, 3, float("nan"), 6, 6),
        (3, 3, 3, float("inf"), 6, 6),
        (-9, 3, 3, -2, 6, 6),
        (3, 3, 40, 6, 6, 50),
        (1e30, 1e30, 1e30, 2e30, 2e30, 2e30),
    ],
)
def test_a_box_of_nothing_gives_no_voxel(box):
    assert paste(rand(3, 3, 3), torch.tensor(box, dtype=torch.float64), SHAPE).probability.numel() == 0


def test_a_box_that_holds_no_centre_gives_the_voxel_around_its_own():
    crop = paste(torch.full((3, 3, 3), 0.75), torch.tensor([4.6, 5.6, 6.6, 4.9, 5.9, 8.6]), SHAPE)
    assert crop.low == (4, 5, 7)
    assert crop.probability.tolist() == [[[0.75, 0.75]]]


def test_half_precision_is_pasted_in_float32():
    crop = paste(rand(3, 3, 3).half(), box_of((1, 1, 1), (5, 5, 5)), SHAPE)
    assert crop.probability.dtype == torch.float32


def test_a_box_too_few_is_refused():
    with pytest.raises(UsageError, match=r"MS-U370 masks \(2, 3, 3, 3\) and boxes \(1, 6\)"):
        paste_all(rand(2, 3, 3, 3), rand(1, 6), SHAPE)


def test_no_masks():
    assert paste_all(rand(0, 3, 3, 3), rand(0, 6), SHAPE) == []


# --- one integer map ----------------------------------------------------------------------------------------------


def crowd(n: int, seed: int, shape: tuple = SHAPE) -> Instances:
    lows = rand(n, 3, seed=seed) * torch.tensor(shape) - 3
    boxes = torch.cat([lows, lows + 2 + rand(n, 3, seed=seed + 1) * 9], 1)
    masks = paste_all(rand(n, 4, 4, 4, seed=seed + 2), boxes, shape)
    return Instances(boxes.float(), rand(n, seed=seed + 3).float(), torch.zeros(n).long(), masks)


def volumes(found: Instances, shape: tuple) -> np.ndarray:
    out = np.zeros((len(found), *shape))
    for volume, mask in zip(out, found.masks, strict=True):
        volume[tuple(slice(a, b) for a, b in zip(mask.low, mask.high, strict=True))] = mask.probability.numpy()
    return out


@given(st.integers(0, 10**6), st.integers(1, 12), st.sampled_from([0.3, 0.5, 0.7]))
def test_the_likeliest_instance_keeps_a_voxel(seed, n, threshold):
    found = crowd(n, seed)
    full = volumes(found, SHAPE)
    expected = np.where(full.max(0) >= threshold, full.argmax(0) + 1, 0)
    made = label_map(found, SHAPE, threshold=threshold)
    assert np.array_equal(made.ids, expected)
    assert made.voxels.tolist() == [(expected == i + 1).sum() for i in range(n)]


@given(st.integers(0, 10**6), st.integers(1, 12))
def test_by_score_the_surest_instance_keeps_a_voxel(seed, n):
    found = crowd(n, seed)
    expected = np.zeros(SHAPE, int)
    for i in np.argsort(found.scores.numpy()):
        expected[volumes(found, SHAPE)[i] >= 0.5] = i + 1
    assert np.array_equal(label_map(found, SHAPE, by="score").ids, expected)


def test_of_equal_probabilities_the_higher_score_counts():
    masks = [MaskCrop((0, 0, 0), torch.full((2, 2, 2), 0.75)), MaskCrop((1, 0, 0), torch.full((2, 2, 2), 0.75))]
    found = Instances(torch.zeros(2, 6), torch.tensor([0.4, 0.9]), torch.zeros(2).long(), masks)
    assert label_map(found, (3, 2, 2)).ids[:, 0, 0].tolist() == [1, 2, 2]


def test_a_covered_instance_has_no_voxels_but_keeps_its_number():
    masks = [MaskCrop((1, 1, 1), torch.full((n, n, n), p)) for n, p in ((1, 0.6), (3, 0.9), (1, 0.2))]
    found = Instances(torch.zeros(3, 6), torch.tensor([0.4, 0.9, 0.8]), torch.zeros(3).long(), masks)
    assert label_map(found, (5, 5, 5)).voxels.tolist() == [0, 27, 0]


def test_a_crop_that_reaches_out_of_the_image_is_cut():
    mask = MaskCrop((-1, 3, 2), torch.ones(3, 4, 2))
    ids = label_map(Instances(torch.zeros(1, 6), torch.ones(1), torch.zeros(1).long(), [mask]), (4, 5, 6)).ids
    assert np.argwhere(ids).min(0).tolist() == [0, 3, 2]
    assert np.argwhere(ids).max(0).tolist() == [1, 4, 3]


def test_many_instances_take_wider_numbers():
    n = 2**16
    one = torch.ones(1, 1, 1)
    masks = [MaskCrop((i >> 11, (i >> 5) & 63, i & 31), one) for i in range(n)]
    found = Instances(torch.zeros(n, 6), torch.ones(n), torch.zeros(n).long(), masks)
    made = label_map(found, (32, 64, 32))
    assert made.ids.dtype == np.uint32
    assert np.array_equal(made.ids.ravel(), np.arange(1, n + 1))
    assert label_map(nothing(), (2, 2, 2)).ids.dtype == np.uint16


def test_no_volume_is_made_for_an_instance():
    shape = (128, 128, 128)
    found = crowd(200, 0, shape)
    tracemalloc.start()
    label_map(found, shape)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 128**3 + 2**20
