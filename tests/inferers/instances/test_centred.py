"""Oracle: a network that knows the truth and sees it with other noise in every tile; places counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import UsageError
from medseg.inferers import InstanceInferer
from medseg.inferers.instances.centred import centred, places
from medseg.inferers.instances.found import Instances, MaskCrop, nothing
from medseg.inferers.instances.paste import label_map
from medseg.inferers.instances.samples import samples_of
from tests.inferers.instances.oracle import Knower, compared, scene, volume

SHAPE = (44, 48, 40)
NOISY = (Knower(0.3, 0.5, classes=1),)


class Stride(torch.nn.Module):
    divisor = (4, 4, 4)


def segmented(ids: np.ndarray, overlap: int, recentre: int | None, networks=NOISY):
    inferer = InstanceInferer((24, 24, 24), overlap, recentre=recentre, precision="fp32")
    found = samples_of(volume(ids), inferer, lambda tile: [network(tile) for network in networks], Stride())
    return [label_map(one, ids.shape).ids.astype(int) for one in found]


def boxed(*boxes: list[float]) -> Instances:
    masks = []
    for box in boxes:
        low, high = (int(x) for x in box[:3]), (int(x) for x in box[3:])
        start = tuple(low)
        masks.append(MaskCrop(start, torch.ones([b - a for a, b in zip(start, high, strict=True)])))
    n = len(boxes)
    return Instances(torch.tensor(boxes).float(), torch.full((n,), 0.6), torch.zeros(n).long(), masks)


@pytest.mark.parametrize("step", [4, 8])
def test_masks_are_the_same_whatever_the_tiles(step):
    ids = scene(SHAPE, 16, 0, radii=(2, 5))
    first, *others = [segmented(ids, overlap, step)[0] for overlap in (8, 12, 16)]
    assert len(np.unique(first)) - 1 == len(np.unique(ids)) - 1
    for other in others:
        assert min(compared(first, other)) == min(compared(other, first)) == 1
    as_tiles_saw = [segmented(ids, overlap, None)[0] for overlap in (8, 16)]
    assert min(compared(*as_tiles_saw)) < 0.99  # else there was nothing to mend


def test_each_sample_is_looked_at_again_on_its_own():
    ids, two = scene(SHAPE, 16, 1, radii=(1.5, 5)), (Knower(0.3, 0.5, classes=1), Knower(0.6, classes=1))
    both = segmented(ids, 12, 4, two)
    for network, together in zip(two, both, strict=True):
        assert np.array_equal(segmented(ids, 12, 4, (network,))[0], together)


def test_a_volume_of_one_tile_is_looked_at_once():
    seen = []
    inferer = InstanceInferer((24, 24, 24), recentre=4)
    inferer.progress = lambda done, total: seen.append((done, total))
    ids = scene((20, 24, 22), 5, 0, radii=(2, 4))
    samples_of(volume(ids), inferer, lambda tile: [Knower()(tile)], Stride())
    assert seen == [(1, 1)]


def test_progress_counts_the_tiles_around_instances():
    ids, seen = np.zeros((20, 20, 60), int), []
    ids[5:9, 5:9, 5:9], ids[5:9, 5:9, 40:44] = 1, 2
    inferer = InstanceInferer((20, 20, 20), 8, recentre=4)
    inferer.progress = lambda done, total: seen.append((done, total))
    (found,) = samples_of(volume(ids), inferer, lambda tile: [Knower()(tile)], Stride())
    assert len(found) == 2
    tiles = len(inferer.tiles_over(ids.shape, Stride()))
    assert seen == [*((n, tiles) for n in range(1, tiles + 1)), (tiles + 1, tiles + 2), (tiles + 2, tiles + 2)]


def test_what_no_tile_sees_whole_stays():
    ids = np.zeros((20, 20, 80), int)
    ids[8:12, 8:12, 2:78] = 1
    for recentre in (None, 4):
        assert np.array_equal(segmented(ids, 12, recentre, (Knower(),))[0] > 0, ids > 0)


def test_what_is_not_seen_again_stays_and_what_is_takes_its_score():
    found = boxed([2, 2, 2, 6, 6, 6], [10, 10, 10, 14, 14, 14])
    again = boxed([10, 10, 10, 14, 14, 15])
    again.scores[0] = 0.9
    around = places(found, (16, 16, 16), (16, 16, 16), stride=(4, 4, 4), step=4)
    out = centred(found, around, lambda tile: again)
    assert out.scores.tolist() == pytest.approx([0.9, 0.6])
    assert out.boxes.tolist() == [[10, 10, 10, 14, 14, 15], [2, 2, 2, 6, 6, 6]]
    assert len(centred(nothing(), [], lambda tile: again)) == 0


def test_places_by_hand():
    found = boxed([40, 2, 93, 50, 8, 99])
    (tile,) = places(found, (100, 20, 100), (32, 32, 32), stride=(8, 4, 4), step=8)
    assert tile.low == (32, 0, 68)  # 45 - 16 = 29, the nearest multiple of 8; small; 96 - 16 = 80, the last is 68
    assert tile.high == (64, 20, 100)
    assert (tile.ramp_low, tile.ramp_high) == ((1, 0, 1), (1, 0, 0))


@given(
    st.tuples(*[st.integers(4, 90)] * 3),
    st.sampled_from([8, 16, 32]),
    st.sampled_from([1, 4, 8]),
    st.integers(1, 20),
    st.tuples(*[st.floats(0, 1)] * 6),
)
def test_a_place_is_on_the_grid_of_the_network_and_its_middle_near_the_box(shape, size, stride, step, share):
    edges = [sorted((share[n] * shape[n], share[n + 3] * shape[n])) for n in range(3)]
    low, high = zip(*edges, strict=True)
    one = Instances(
        torch.tensor([[*low, *high]]).float(),
        torch.ones(1),
        torch.zeros(1).long(),
        [MaskCrop((0, 0, 0), torch.ones(1, 1, 1))],
    )
    (tile,) = places(one, shape, (size,) * 3, stride=(stride,) * 3, step=step)
    wide = -(-step // stride) * stride
    for axis, n in enumerate(shape):
        a, b = tile.low[axis], tile.high[axis]
        assert a % stride == 0
        assert b - a == min(size, -(-n // stride) * stride)
        assert a >= 0
        assert b < n + stride
        assert tile.ramp_low[axis] == (a > 0)
        assert tile.ramp_high[axis] == (b < n)
        if tile.ramp_low[axis] and tile.ramp_high[axis]:
            middle = float(one.boxes[0, axis] + one.boxes[0, axis + 3]) / 2
            assert abs(middle - (a + b) / 2) <= wide / 2 + 1e-3


@pytest.mark.parametrize("step", [0, -8, 1.5])
def test_a_step_of_no_voxels_is_refused(step):
    with pytest.raises(UsageError, match="MS-U371"):
        InstanceInferer((24, 24, 24), recentre=step)
