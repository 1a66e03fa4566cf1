"""Oracle: full masks, one a instance, in volumes so small that they fit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import UsageError
from medseg.inferers.instances.found import Instances, MaskCrop, clipped, cut, joined, moved, nothing, on_cpu, pick

SHAPE = (7, 8, 9)
LOWS = st.tuples(*[st.integers(-6, 10)] * 3)


def some(n: int = 3) -> Instances:
    draw = torch.Generator().manual_seed(n)
    masks = [MaskCrop((i, 2 * i, 1), torch.rand(2, 3, 4, generator=draw)) for i in range(n)]
    boxes = torch.tensor([[*m.low, *m.high] for m in masks]).float().view(n, 6)
    return Instances(boxes, torch.rand(n, generator=draw), torch.arange(n), masks)


def full(mask: MaskCrop, low: tuple, high: tuple) -> torch.Tensor:
    """The mask in the voxels low <= i < high, voxel by voxel."""
    out = torch.zeros([b - a for a, b in zip(low, high, strict=True)])
    for index in torch.cartesian_prod(*[torch.arange(n) for n in mask.probability.shape]).tolist():
        place = [a + i - b for a, i, b in zip(mask.low, index, low, strict=True)]
        if all(0 <= p < n for p, n in zip(place, out.shape, strict=True)):
            out[tuple(place)] = mask.probability[tuple(index)]
    return out


@given(LOWS, LOWS, st.tuples(*[st.integers(0, 8)] * 3))
def test_cut_is_the_part_within(at, low, size):
    mask = MaskCrop(at, torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0)) + 0.1)
    high = tuple(a + n for a, n in zip(low, size, strict=True))
    found = cut(mask, low, high)
    inside = full(mask, low, high)
    assert torch.equal(full(found, low, high), inside)
    assert found.probability.numel() == int((inside > 0).sum())


@given(LOWS)
def test_moving_there_and_back_changes_nothing(by):
    found = some()
    back = moved(moved(found, by), [-x for x in by])
    assert torch.equal(back.boxes, found.boxes)
    assert [m.low for m in back.masks] == [m.low for m in found.masks]
    there = moved(found, by)
    assert torch.equal(there.boxes - found.boxes, torch.tensor([*by, *by]).float().expand(3, 6))
    far = (-20,) * 3, (30,) * 3
    rolled = torch.roll(full(found.masks[1], *far), by, (0, 1, 2))
    assert torch.equal(full(there.masks[1], *far), rolled)


@given(LOWS)
def test_clipping_keeps_exactly_what_lies_in_the_image(by):
    there = moved(some(), by)
    found = clipped(there, SHAPE)
    left = [i for i, m in enumerate(there.masks) if full(m, (0, 0, 0), SHAPE).any()]
    assert found.classes.tolist() == left
    for i, mask in zip(left, found.masks, strict=True):
        assert torch.equal(full(mask, (0, 0, 0), SHAPE), full(there.masks[i], (0, 0, 0), SHAPE))
    assert (found.boxes >= 0).all()
    assert (found.boxes <= torch.tensor([*SHAPE, *SHAPE])).all()


def test_picking_by_index_and_by_truth():
    found = some(4)
    by_index = pick(found, [3, 1])
    assert by_index.classes.tolist() == [3, 1]
    assert by_index.masks == [found.masks[3], found.masks[1]]
    assert pick(found, torch.tensor([False, True, False, True])).classes.tolist() == [1, 3]
    assert len(pick(found, [])) == 0


def test_joined_keeps_the_order():
    both = joined([some(2), nothing(), some(3)])
    assert both.classes.tolist() == [0, 1, 0, 1, 2]
    assert len(both.masks) == 5
    assert len(joined([])) == 0


def test_on_cpu_halves_the_masks_and_nothing_else():
    found = some()
    kept = on_cpu(found)
    assert torch.equal(kept.boxes, found.boxes)
    assert torch.equal(kept.scores, found.scores)
    for a, b in zip(kept.masks, found.masks, strict=True):
        assert a.probability.dtype == torch.float16
        assert (a.probability - b.probability).abs().max() < 2**-11


def test_parts_of_different_lengths_are_refused():
    with pytest.raises(UsageError, match=r"MS-U370 1 masks, but boxes \(2, 6\), scores \(1,\)"):
        Instances(torch.zeros(2, 6), torch.zeros(1), torch.zeros(1).long(), [MaskCrop((0, 0, 0), torch.zeros(1, 1, 1))])


def test_clipping_to_nothing():
    assert len(clipped(moved(some(), (50, 0, 0)), SHAPE)) == 0
    assert len(clipped(nothing(), SHAPE)) == 0
