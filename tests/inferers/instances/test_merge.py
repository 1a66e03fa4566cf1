"""Oracle: networks that know the truth and see it tile by tile, with noise; and figures worked out by hand."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.inferers.instances.found import Instances, MaskCrop, joined, pick
from medseg.inferers.instances.merge import at_least, merge
from medseg.inferers.instances.paste import label_map
from medseg.inferers.instances.tiles import View, tiles, views, whole
from tests.inferers.instances.oracle import Knower, compared, scene, volume

SHAPE = (44, 48, 40)


def crowded(seed: int = 0) -> np.ndarray:
    """Ellipsoids that touch and are cut by the volume's border; three parallel rods, longer than two tiles, that touch."""
    ids = scene(SHAPE, 24, seed, radii=(1.5, 6))
    for n in range(3):
        ids[14 + 4 * n : 18 + 4 * n, 1:47, 18:22] = 100 + n
    return np.unique(ids, return_inverse=True)[1].reshape(SHAPE)


def segmented(ids: np.ndarray, network, *, shift: int = 0, size: int = 24, overlap: int = 12, stride: int = 4):
    over = tiles(ids.shape, size, overlap, stride=stride, shift=shift)
    found = merge(views(volume(ids), network, over))
    return found, label_map(found, ids.shape).ids.astype(int)


# --- independent of the tiles -------------------------------------------------------------------------------------


@settings(max_examples=12)
@given(st.integers(0, 10**6), st.sampled_from([(16, 4), (16, 8), (20, 8), (24, 0)]), st.sampled_from([0, 4, 8]))
def test_a_network_that_knows_all_gives_the_truth_whatever_the_tiles(seed, layout, shift):
    ids = np.unique(scene((28, 30, 26), 10, seed, radii=(1.5, 9)), return_inverse=True)[1].reshape(28, 30, 26)
    found, labels = segmented(ids, Knower(), size=layout[0], overlap=layout[1], shift=shift)
    if layout[1]:  # without an overlap nothing says that two parts are one
        assert len(found) == ids.max()
        assert min(compared(ids, labels), default=1) == 1
    assert np.array_equal(labels > 0, ids > 0)


@pytest.mark.parametrize("shift", [4, 8])
def test_noise_in_the_volume_gives_the_same_result_from_shifted_tiles(shift):
    ids, network = crowded(), Knower(fixed=0.5, jitter=1, spread=0.4, classes=1)
    (one, first), (other, second) = segmented(ids, network), segmented(ids, network, shift=shift)
    assert len(one) == len(other) == ids.max()
    assert min(compared(first, second)) >= 0.99
    assert min(compared(ids, first)) > 0.7  # the noise is none that one would overlook


@pytest.mark.parametrize("shift", [4, 8])
def test_noise_of_each_tile_gives_nearly_the_same_result_from_shifted_tiles(shift):
    ids, network = crowded(1), Knower(fixed=0.3, drawn=0.3, jitter=1, spread=0.4, least=4, classes=1)
    (one, first), (other, second) = segmented(ids, network), segmented(ids, network, shift=shift)
    assert len(one) == len(other) == ids.max()
    assert np.mean(compared(first, second)) >= 0.99
    assert ((first > 0) & (second > 0)).sum() / ((first > 0) | (second > 0)).sum() >= 0.99


def test_a_network_that_sees_badly_beside_the_faces_of_its_tile():
    ids = np.pad(crowded(2), 3)
    network = Knower(fixed=0.3, faint=2, jitter=1, least=12, classes=1)
    (one, first), (other, second) = segmented(ids, network), segmented(ids, network, shift=4)
    assert len(one) == len(other)
    assert min(compared(first, second)) >= 0.98
    assert np.mean(compared(first, second)) >= 0.99


def test_the_order_of_the_tiles_does_not_matter():
    ids, network = crowded(), Knower(fixed=0.5, jitter=1, spread=0.4)
    seen = list(views(volume(ids), network, tiles(SHAPE, 24, 12, stride=4)))
    one, other = merge(seen), merge(seen[::-1])
    assert np.mean(compared(label_map(one, SHAPE).ids, label_map(other, SHAPE).ids)) == 1
    torch.testing.assert_close(one.scores, other.scores)
    torch.testing.assert_close(one.boxes, other.boxes)


# --- what is one and what is two ------------------------------------------------------------------------------------


def test_touching_instances_of_one_class_stay_two():
    ids = np.zeros((12, 60, 12), int)
    ids[2:6, 2:58, 2:10], ids[6:10, 2:58, 2:10] = 1, 2  # side by side through all tiles
    for shift in (0, 4, 8):
        found, labels = segmented(ids, Knower(fixed=0.4, classes=1), size=20, overlap=8, shift=shift)
        assert len(found) == 2
        assert min(compared(ids, labels)) > 0.9


def test_instances_that_touch_where_a_tile_ends_stay_two():
    for border in range(8, 29):
        ids = np.zeros((36, 8, 8), int)
        ids[2:border, 1:7, 1:7], ids[border:34, 1:7, 1:7] = 1, 2
        found, labels = segmented(ids, Knower(classes=1), size=20, overlap=8)
        assert len(found) == 2
        assert np.array_equal(labels > 0, ids > 0)
        assert min(compared(ids, labels)) == 1


def test_a_bent_vessel_that_enters_a_tile_twice_is_one():
    ids = np.zeros((40, 20, 12), int)
    ids[2:38, 2:6, 4:8] = ids[2:38, 14:18, 4:8] = ids[34:38, 2:18, 4:8] = 1
    for shift in (0, 4, 8):
        found, labels = segmented(ids, Knower(connected=True), size=20, overlap=8, shift=shift)
        assert len(found) == 1
        assert np.array_equal(labels, ids)
        assert found.boxes.tolist() == [[2, 2, 4, 38, 18, 8]]


def test_two_that_one_tile_takes_for_one_at_its_face_stay_two():
    """The neighbour sees both in full; what a tile makes of them beside its own face counts little."""
    ids = np.zeros((32, 12, 8), int)
    ids[4:14, 1:6, 1:7], ids[4:14, 6:11, 1:7] = 1, 2
    first, second = tiles(ids.shape, (20, 12, 8), (8, 0, 0), stride=4)
    seen = list(views(volume(ids), Knower(classes=1), [first]))
    seen += views(volume(np.minimum(ids, 1)), Knower(classes=1), [second])
    assert second.low[0] == 12
    assert len(seen[1].found) == 1
    found = merge(seen)
    assert len(found) == 2
    assert np.mean(compared(ids, label_map(found, ids.shape).ids)) == 1


def test_a_sliver_that_its_own_tile_barely_sees_is_not_an_instance():
    """A tile sees the last two slices of an instance and gives them half of their true width."""
    ids = np.zeros((32, 12, 8), int)
    ids[4:14, 2:10, 1:7] = 1
    first, second = tiles(ids.shape, (20, 12, 8), (8, 0, 0), stride=4)
    sliver = np.zeros_like(ids)
    sliver[12:14, 9:12, 1:7] = 1
    seen = [next(views(volume(ids), Knower(), [first])), next(views(volume(sliver), Knower(), [second]))]
    found = merge(seen)
    assert len(found) == 1
    assert np.array_equal(label_map(found, ids.shape).ids, ids)


def test_parts_of_two_instances_share_noise_where_corners_of_tiles_meet():
    ids = np.zeros((32, 32, 8), int)
    ids[2:16, 2:16, 1:7], ids[16:30, 16:30, 1:7] = 1, 2  # they meet at an edge, in the middle of all overlaps
    found, labels = segmented(ids, Knower(fixed=0.6, drawn=0.6, classes=1), size=20, overlap=8)
    assert len(found) == 2
    assert min(compared(ids, labels)) > 0.85  # what the noise leaves


# --- scores, boxes, classes, masks: by hand -------------------------------------------------------------------------


def one(low: tuple, high: tuple, score: float, label: int = 0, p: float = 1.0, box: tuple = ()) -> Instances:
    size = [b - a for a, b in zip(low, high, strict=True)]
    mask = MaskCrop(low, torch.full(size, p).half())
    return Instances(torch.tensor([box or (*low, *high)]).float(), torch.tensor([score]), torch.tensor([label]), [mask])


TWO = tiles((36, 8, 8), (20, 8, 8), (4, 0, 0), stride=4)  # [0, 20) and [16, 36): weights 3/4 and 1/4 at 17, say


def test_scores_and_boxes_are_means_by_the_tiles_weights():
    assert [(t.low[0], t.high[0]) for t in TWO] == [(0, 20), (16, 36)]
    a, b = ((16, 1, 1), (18, 5, 5)), ((16, 1, 1), (18, 5, 5))  # its centre, 17, weighs 3/4 in one and 1/4 in the other
    whole_of_both = [
        View(whole((36, 8, 8)), one(*a, 0.9, box=(16, 1, 1, 18, 5, 5))),
        View(whole((36, 8, 8)), one(*b, 0.3, box=(16, 1, 1, 20, 5, 5))),
    ]
    found = merge(whole_of_both)
    assert found.scores.item() == pytest.approx((0.9 + 0.3) / 2)
    assert found.boxes[0, 3].item() == pytest.approx((18 * 0.9 + 20 * 0.3) / 1.2)
    cut = merge([View(TWO[0], one(*a, 0.9)), View(TWO[1], one(*b, 0.5))])
    assert cut.scores.item() == pytest.approx(0.75 * 0.9 + 0.25 * 0.5)


def test_who_should_have_seen_it_and_did_not_lowers_the_score():
    empty = pick(one((0, 0, 0), (1, 1, 1), 1), [])
    far = one((4, 1, 1), (9, 5, 5), 0.8)
    near = one((16, 1, 1), (18, 5, 5), 0.8)
    assert merge([View(TWO[0], far), View(TWO[1], empty)]).scores.item() == pytest.approx(
        0.8
    )  # not in the other's reach
    assert merge([View(TWO[0], near), View(TWO[1], empty)]).scores.item() == pytest.approx(0.75 * 0.8)
    three = [View(whole((36, 8, 8)), x) for x in (near, empty, near)]
    assert merge(three).scores.item() == pytest.approx(0.8 * 2 / 3)


def test_a_cut_piece_alone_stays_only_in_the_core_of_its_tile():
    empty = pick(one((0, 0, 0), (1, 1, 1), 1), [])
    beside = one((17, 1, 1), (20, 5, 5), 0.8)  # the first tile's core ends at 18
    inside = one((13, 1, 1), (20, 5, 5), 0.8)
    assert len(merge([View(TWO[0], beside), View(TWO[1], empty)])) == 0
    kept = merge([View(TWO[0], inside), View(TWO[1], empty)])
    assert kept.boxes.tolist() == [[13, 1, 1, 20, 5, 5]]


def test_probabilities_are_means_by_the_tiles_weights_in_each_voxel():
    found = merge(
        [View(TWO[0], one((12, 1, 1), (20, 5, 5), 1, p=1.0)), View(TWO[1], one((16, 1, 1), (24, 5, 5), 1, p=0.5))]
    )
    assert len(found) == 1
    assert found.masks[0].low == (12, 1, 1)
    share = [0.875, 0.625, 0.375, 0.125]  # of the first tile in the voxels 16 to 19
    expected = [1.0] * 4 + [s + (1 - s) * 0.5 for s in share] + [0.5] * 4
    assert found.masks[0].probability[:, 0, 0].tolist() == pytest.approx(expected, abs=1e-3)


def test_what_a_tile_that_saw_the_instance_does_not_claim_is_zero_there():
    views_ = [View(whole((9, 9, 9)), one((1, 1, 1), (5, 5, h), 1)) for h in (5, 5, 6)]
    values = merge(views_).masks[0].probability
    assert values[0, 0].tolist() == pytest.approx([1, 1, 1, 1, 1 / 3], abs=1e-3)


def test_the_class_of_the_strongest_voices_counts():
    everything = whole((36, 8, 8))
    seen = [View(everything, one((2, 1, 1), (9, 5, 5), s, c)) for s, c in ((0.9, 2), (0.5, 1), (0.6, 1))]
    found = merge(seen)
    assert found.classes.tolist() == [1]
    assert found.scores.item() == pytest.approx((0.5 + 0.6) / 3)


def test_what_one_network_tells_apart_stays_apart():
    """A lesion in an organ: two classes, nearly the same voxels."""
    everything = whole((36, 8, 8))
    both = joined([one((2, 1, 1), (9, 5, 5), 0.9, 0), one((2, 1, 1), (9, 5, 4), 0.8, 1)])
    found = merge([View(everything, both), View(everything, both)])
    assert found.classes.tolist() == [0, 1]
    assert found.scores.tolist() == pytest.approx([0.9, 0.8])


def test_of_two_that_coincide_and_no_tile_told_apart_the_surer_stays():
    everything = whole((36, 8, 8))
    seen = [View(everything, one((2, 1, 1), (12, 5, 5), 0.9)), View(everything, one((3, 1, 1), (7, 5, 5), 0.6))]
    found = merge(seen)
    assert found.boxes.tolist() == [[2, 1, 1, 12, 5, 5]]


def test_by_falling_score_and_none_is_lost():
    everything = whole((36, 8, 8))
    rods = [one((2 * n, 0, 0), (2 * n + 1, 8, 8), (n * 7 % 18) / 20 + 0.05) for n in range(18)]
    found = merge([View(everything, joined(rods))])
    assert len(found) == 18
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    assert len(at_least(found, 0.5)) == 9


def test_nothing_seen():
    assert len(merge([])) == 0
    assert len(merge([View(whole((4, 4, 4)), joined([]))])) == 0


# --- memory ---------------------------------------------------------------------------------------------------------

MANY = """
import numpy as np, re, torch
from pathlib import Path
from medseg.inferers.instances.found import Instances
from medseg.inferers.instances.merge import merge
from medseg.inferers.instances.paste import label_map, paste_all
from medseg.inferers.instances.tiles import tiles, views
rng = np.random.default_rng(0)
cells = rng.permutation(512)[:400]
low = np.stack(np.unravel_index(cells, (8, 8, 8)), 1) * 32 + rng.uniform(1, 8, (400, 3))
boxes = torch.from_numpy(np.concatenate([low, low + rng.uniform(8, 22, (400, 3))], 1)).float()
axis = (torch.arange(28) + 0.5) / 14 - 1
ball = (1.3 - (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis ** 2).sqrt()).clamp(0, 1)
def network(tile):
    start = torch.tensor([int(tile[0, n, 0, 0, 0]) for n in range(3)])
    size = torch.tensor(tile.shape[2:])
    at = boxes - torch.cat([start, start])
    seen = torch.maximum(at[:, :3], torch.zeros(3)), torch.minimum(at[:, 3:], size)
    keep = ((seen[1] - seen[0]) > 3).all(1) & (at[:, :3] > -2).all(1) & (at[:, 3:] < size + 2).all(1)
    n = int(keep.sum())
    masks = paste_all(ball.expand(n, 28, 28, 28), at[keep], tile.shape[2:])
    return Instances(at[keep], torch.full((n,), 0.9), torch.zeros(n).long(), masks)
image = torch.stack(torch.meshgrid(*[torch.arange(256, dtype=torch.int16)] * 3, indexing="ij"))[None]
found = merge(views(image, network, tiles((256,) * 3, 128, 32, stride=16)))
made = label_map(found, (256,) * 3)
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1)) / 1024
print(len(found), int((made.voxels > 0).sum()), peak)
"""


@pytest.mark.slow  # a fresh process that loads torch and MONAI
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_400_instances_in_256_cubed_take_less_than_a_gibibyte():
    run = subprocess.run([sys.executable, "-c", MANY], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    count, visible, peak = re.fullmatch(r"(\d+) (\d+) ([\d.]+)\s*", run.stdout).groups()
    assert (int(count), int(visible)) == (400, 400)
    assert 100 < float(peak) < 1024, "MiB of the whole process, libraries and image included"
