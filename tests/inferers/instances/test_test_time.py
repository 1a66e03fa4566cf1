"""Oracle: a network that knows the truth finds the same, however the tile is turned or resized before."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.errors import UsageError
from medseg.inferers.instances.found import Instances, MaskCrop, joined, pick
from medseg.inferers.instances.paste import label_map
from medseg.inferers.instances.test_time import Each, Flipped, Scaled, Several, flipped, resized
from tests.inferers.instances.oracle import Knower, compared, scene, volume

SHAPE = (18, 20, 16)
IDS = np.unique(scene(SHAPE, 5, 0, radii=(2, 5)), return_inverse=True)[1].reshape(SHAPE)
IMAGE = volume(IDS)


def alike(a: Instances, b: Instances) -> None:
    assert torch.equal(a.boxes, b.boxes)
    assert a.classes.tolist() == b.classes.tolist()
    assert [m.low for m in a.masks] == [m.low for m in b.masks]
    assert all(torch.equal(m.probability, n.probability) for m, n in zip(a.masks, b.masks, strict=True))


@given(st.lists(st.integers(0, 2), unique=True))
def test_a_mirror_changes_nothing_for_a_network_that_knows(axes):
    alike(Flipped(Knower(), tuple(axes))(IMAGE), Knower()(IMAGE))


def test_a_mirror_image_is_shown():
    shown = []

    def network(tile):
        shown.append(tile)
        return Knower()(tile)

    Flipped(network, (0, 2))(IMAGE)
    assert torch.equal(shown[0], IMAGE.flip([2, 4]))


def test_left_and_right_change_places():
    found = Flipped(Knower(classes=9), (0,), {1: 2, 2: 1})(IMAGE)
    assert found.classes.tolist() == [{1: 2, 2: 1}.get(c, c) for c in Knower(classes=9)(IMAGE).classes.tolist()]


def test_flipped_twice_is_as_before():
    found = Knower(jitter=1)(IMAGE)
    back = flipped(flipped(found, (0, 1), SHAPE), (0, 1), SHAPE)
    torch.testing.assert_close(back.boxes, found.boxes, rtol=0, atol=1e-5)
    assert [m.low for m in back.masks] == [m.low for m in found.masks]


def bright(tile: torch.Tensor) -> Instances:
    """The voxels of more than 1/2, as one instance."""
    value = tile[0, 0]
    inside = (value > 0.5).nonzero()
    low, high = inside.min(0).values, inside.max(0).values + 1
    crop = value[tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))]
    a, b, c = low.tolist()
    box = torch.cat([low, high]).float()[None]
    return Instances(box, torch.ones(1), torch.zeros(1).long(), [MaskCrop((a, b, c), crop)])


@settings(max_examples=20)
@given(st.tuples(*[st.floats(0.7, 2.5)] * 3))
def test_another_size_finds_the_same_ball(factor):
    shape = (30, 32, 28)
    at = np.indices(shape) + 0.5 - np.array([14, 17, 13])[:, None, None, None]
    ball = torch.from_numpy(1 / (1 + np.exp(np.sqrt((at**2).sum(0)) - 8))).float()
    found, direct = Scaled(bright, factor)(ball[None, None]), bright(ball[None, None])
    assert (found.boxes - direct.boxes).abs().max() < 1.6
    assert compared(label_map(direct, shape).ids, label_map(found, shape).ids)[0] > 0.9


@given(st.tuples(*[st.integers(1, 3)] * 3))
def test_whole_multiples_go_there_and_back(times):
    found = Knower()(IMAGE)
    large = tuple(n * k for n, k in zip(SHAPE, times, strict=True))
    there = resized(found, SHAPE, large)
    torch.testing.assert_close(there.boxes, found.boxes * torch.tensor([*times, *times]))
    back = resized(there, large, SHAPE)
    torch.testing.assert_close(back.boxes, found.boxes)
    assert min(compared(IDS, label_map(back, SHAPE).ids)) > 0.95


def test_the_network_is_shown_a_size_that_its_stride_divides():
    shown = []

    def network(tile):
        shown.append(tuple(tile.shape[2:]))
        return Knower()(tile)

    Scaled(network, (1.3, 0.8, 0.1), (4, 8, 8))(IMAGE)
    assert shown == [(24, 16, 8)]


def test_networks_that_agree_are_as_one():
    found, alone = Several([Knower(), Flipped(Knower(), (1,)), Knower()])(IMAGE), Knower()(IMAGE)
    assert len(found) == len(alone)
    torch.testing.assert_close(found.scores, alone.scores)
    order = [int((found.boxes == box).all(1).nonzero()) for box in alone.boxes]
    assert sorted(order) == list(range(len(alone)))
    assert min(compared(IDS, label_map(found, SHAPE).ids)) == 1


def test_what_one_of_three_misses_scores_two_thirds():
    found = Several([Knower(), lambda tile: pick(Knower()(tile), [0, 1]), Knower()])(IMAGE)
    assert len(found) == IDS.max()
    assert sorted(found.scores.tolist()) == pytest.approx([0.6] * (IDS.max() - 2) + [0.9] * 2)


def test_what_only_one_finds_is_not_lost():
    found = Several([Knower(), lambda tile: joined([])])(IMAGE)
    assert found.scores.tolist() == pytest.approx([0.45] * IDS.max())


def test_each_is_a_sample():
    first, second = Each([Knower(), Flipped(Knower(), (0,))])(IMAGE)
    alike(first, second)


def test_nothing_found_stays_nothing():
    assert len(Flipped(lambda tile: joined([]), (0,))(IMAGE)) == 0
    assert len(Scaled(lambda tile: joined([]), 2)(IMAGE)) == 0


def test_what_cannot_be_is_refused():
    with pytest.raises(UsageError, match="MS-U372 an ensemble of no networks"):
        Several([])
    with pytest.raises(UsageError, match=r"MS-U372 the factor is \(1, 0, 1\)"):
        Scaled(Knower(), (1, 0, 1))
