"""What follows from an instance map: boxes after deformation, matches, mask targets, and what is left out."""

from __future__ import annotations

import torch
from monai.apps.detection.utils.ATSS_matcher import ATSSMatcher

from medseg.boxes.overlap import iou_matrix
from medseg.networks.truth import (
    BOX_ONLY,
    IGNORED,
    LEFT_OUT,
    NEGATIVE,
    STUFF,
    assign_anchors,
    assign_proposals,
    mask_targets,
    semantic_target,
    share_of_boxes,
    truth_of,
)


def scene() -> torch.Tensor:
    labels = torch.zeros(20, 20, 20, dtype=torch.int32)
    labels[2:8, 3:9, 4:10] = 3
    labels[12:16, 12:18, 10:15] = 5
    labels[0:4, 14:20, 0:6] = 7
    return labels


def truth(kind: int = IGNORED):
    return truth_of(scene(), torch.tensor([0, 0, 0, 1, 0, 2]), torch.tensor([0, 0, 0, 0, 0, BOX_ONLY, 0, kind]))


def test_boxes_and_classes_come_from_the_map_and_the_tables():
    found = truth()
    assert found.ids.tolist() == [3, 5]
    assert found.boxes.tolist() == [[2, 3, 4, 8, 9, 10], [12, 12, 10, 16, 18, 15]]
    assert found.classes.tolist() == [1, 2]
    assert found.has_mask.tolist() == [True, False]
    assert found.ignored_ids.tolist() == [7]
    assert truth(IGNORED | BOX_ONLY).ignored_ids.tolist() == [7]
    assert truth(0).classes.tolist() == [1, 2, 0]


def test_voxels_that_are_not_known_are_left_out_of_the_semantic_target():
    target = semantic_target(truth())
    labels = scene()
    assert set(target[labels == 3].tolist()) == {2}
    assert set(target[labels == 5].tolist()) == {-1}
    assert set(target[labels == 7].tolist()) == {-1}
    assert set(target[labels == 0].tolist()) == {0}


def test_the_share_of_a_box_in_a_mask_is_counted_voxel_by_voxel():
    torch.manual_seed(0)
    mask = torch.rand(7, 8, 9) > 0.5
    low = torch.randint(-2, 5, (50, 3))
    high = low + torch.randint(1, 6, (50, 3))
    shares = share_of_boxes(mask, torch.cat([low, high], 1).float())
    for share, a, b in zip(shares, low.clamp(min=0), high.clamp(min=0), strict=True):
        part = mask[a[0] : b[0], a[1] : b[1], a[2] : b[2]]
        assert abs(float(share) - (float(part.float().mean()) if part.numel() else 0.0)) < 1e-6


def test_proposals_belong_to_what_they_overlap_and_ignored_regions_teach_nothing():
    boxes = torch.tensor(
        [
            [2.0, 3, 4, 8, 9, 10],
            [3, 4, 5, 9, 10, 11],
            [4, 5, 4, 10, 11, 10],
            [12, 12, 10, 16, 18, 15],
            [0, 14, 0, 4, 20, 6],
            [9, 0, 0, 11, 2, 2],
        ]
    )
    assert assign_proposals(boxes, truth(), positive=0.4, negative=0.2).tolist() == [
        0,
        0,
        LEFT_OUT,
        1,
        LEFT_OUT,
        NEGATIVE,
    ]
    nothing = truth_of(torch.zeros(5, 5, 5, dtype=torch.int32), torch.zeros(0), torch.zeros(0))
    assert assign_proposals(boxes, nothing, positive=0.4, negative=0.2).tolist() == [NEGATIVE] * 6


def test_what_the_border_leaves_a_sliver_of_is_not_looked_at():
    labels = torch.zeros(12, 12, 12, dtype=torch.int32)
    labels[0:1, 2:8, 2:8] = 1
    labels[5:6, 2:8, 9:12] = 2
    labels[10:12, 2:8, 2:8] = 3
    found = truth_of(labels, torch.zeros(4), torch.zeros(4))
    assert found.ids.tolist() == [2, 3]
    assert found.ignored_ids.tolist() == [1]


def test_boxes_around_a_thin_ignored_region_are_left_out():
    """A diagonal tube fills little of its box, and that box is where a detector would look for it."""
    labels = torch.zeros(20, 20, 20, dtype=torch.int32)
    for n in range(3, 15):
        labels[n : n + 2, n : n + 2, n : n + 2] = 1
    found = truth_of(labels, torch.zeros(2), torch.tensor([0, IGNORED]))
    boxes = torch.tensor([[3.0, 3, 3, 16, 16, 16], [2, 2, 2, 17, 17, 17], [0, 14, 0, 4, 18, 4]])
    assert assign_proposals(boxes, found, positive=0.4, negative=0.2).tolist() == [LEFT_OUT, LEFT_OUT, NEGATIVE]


def test_of_neighbours_that_want_the_same_anchors_each_gets_one():
    labels = torch.zeros(16, 16, 16, dtype=torch.int32)
    labels[4:6, 4:8, 4:8] = 1
    labels[6:8, 4:8, 4:8] = 2
    c = torch.stack(torch.meshgrid(*[torch.arange(4) * 4 + 2.0] * 3, indexing="ij"), -1).reshape(-1, 3)
    anchors = torch.cat([c - 3, c + 3], 1)
    found = truth_of(labels, torch.zeros(3), torch.zeros(3))
    assert {0, 1} <= set(assign_anchors(anchors, (len(anchors),), 1, found).tolist())


def test_of_a_box_alone_the_target_is_the_part_of_the_box():
    found = truth(0)
    alone = truth_of(found.labels, torch.zeros(8), torch.tensor([0, 0, 0, BOX_ONLY]))
    around = torch.tensor([[-1.0, 3, 4, 8, 9, 10]])  # as long again before it along the first axis, less one
    seen = mask_targets(alone, torch.tensor([0]), around, (9, 6, 6))[0]
    assert set(seen.unique().tolist()) == {0.0, 1.0}
    assert not seen[:3].any()
    assert seen[3:].all()


def test_every_instance_has_an_anchor_however_small():
    labels = torch.zeros(32, 32, 32, dtype=torch.int32)
    labels[5:8, 5:8, 5:8] = 1
    labels[10:29, 10:29, 10:29] = 2
    where = torch.stack(torch.meshgrid(*[torch.arange(16) * 2 + 1.0] * 3, indexing="ij"), -1).reshape(-1, 3)
    fine = torch.cat([where - 2, where + 2], 1)
    where = torch.stack(torch.meshgrid(*[torch.arange(8) * 4 + 2.0] * 3, indexing="ij"), -1).reshape(-1, 3)
    coarse = torch.cat([where - 8, where + 8], 1)
    found = truth_of(labels, torch.zeros(3), torch.zeros(3))
    matched = assign_anchors(torch.cat([fine, coarse]), (len(fine), len(coarse)), 1, found)
    assert {0, 1} <= set(matched.tolist())
    small, large = (matched == 0).nonzero()[:, 0], (matched == 1).nonzero()[:, 0]
    assert (small < len(fine)).all()
    assert (large >= len(fine)).any()


def test_equally_good_candidates_are_taken_where_monai_takes_none():
    """A cube of 6 voxels, four anchors of 6 at the corners of a face around it and four of 12 far too large."""
    labels = torch.zeros(24, 24, 24, dtype=torch.int32)
    labels[3:9, 4:10, 5:11] = 1
    fine = torch.stack(torch.meshgrid(*[torch.arange(12) * 2 + 1.0] * 3, indexing="ij"), -1).reshape(-1, 3)
    coarse = torch.stack(torch.meshgrid(*[torch.arange(6) * 4 + 2.0] * 3, indexing="ij"), -1).reshape(-1, 3)
    anchors = torch.cat([torch.cat([c - h, c + h], 1) for c, h in ((fine, 3), (coarse, 6))])
    found = truth_of(labels, torch.zeros(2), torch.zeros(2))
    per_level = (len(fine), len(coarse))
    matched = assign_anchors(anchors, per_level, 1, found)
    assert (matched == 0).any()
    assert iou_matrix(found.boxes, anchors)[0][matched == 0].min() == iou_matrix(found.boxes, anchors).max()
    monai = ATSSMatcher(num_candidates=4, center_in_gt=False)
    assert not (monai.compute_matches(found.boxes, anchors, per_level, 1)[1] >= 0).any()


def test_where_candidates_differ_the_anchors_are_monais():
    torch.manual_seed(0)
    labels = torch.zeros(32, 32, 32, dtype=torch.int32)
    labels[3:10, 4:12, 5:11] = 1
    labels[14:30, 12:29, 16:31] = 2
    labels[15:20, 2:6, 20:29] = 3
    levels = []
    for stride, half in ((2, 4), (4, 8)):
        c = torch.stack(torch.meshgrid(*[(torch.arange(32 // stride) + 0.5) * stride] * 3, indexing="ij"), -1)
        levels.append(torch.cat([c - half, c + half], -1).reshape(-1, 6))
    found = truth_of(labels, torch.zeros(4), torch.zeros(4))
    per_level = [len(level) for level in levels]
    anchors = torch.cat(levels) + torch.rand(sum(per_level), 1)
    matched = assign_anchors(anchors, per_level, 1, found)
    monai = ATSSMatcher(num_candidates=4, center_in_gt=False).compute_matches(found.boxes, anchors, per_level, 1)[1]
    assert torch.equal(matched, torch.where(monai >= 0, monai, NEGATIVE))
    assert set(matched.tolist()) == {-1, 0, 1, 2}


def test_a_mask_target_is_the_instance_seen_in_its_box():
    found = truth(0)
    exact = mask_targets(found, torch.tensor([0]), found.boxes[:1], (6, 6, 6))
    assert exact.shape == (1, 6, 6, 6)
    assert (exact[0, 1:-1, 1:-1, 1:-1] == 1).all()  # at its faces samples lie half a cell from what is outside
    assert (exact > 0.5).all()
    half = torch.tensor([[-1.0, 3, 4, 5, 9, 10]])  # from 3 voxels before it to its middle
    seen = mask_targets(found, torch.tensor([0]), half, (6, 6, 6))[0]
    assert (seen[:3] < 0.5).all()
    assert (seen[3:] > 0.5).all()
    other = mask_targets(found, torch.tensor([1]), found.boxes[:1], (6, 6, 6))
    assert not other.any()


def test_stuff_is_background_to_everything_but_the_semantic_target():
    """A thin slab of stuff at the border, under one instance: no box, no anchor's positive, nothing ignored."""
    labels = scene()
    labels[19, :, :] = 9
    labels[18, :, :10] = 10
    flags = torch.tensor([0, 0, 0, 0, 0, 0, 0, 0, 0, STUFF, STUFF | IGNORED])
    found = truth_of(labels, torch.tensor([-1, 0, 0, 1, 0, 0, 0, 0, 0, 2, 2]), flags)
    without = truth_of(torch.where(labels == 9, 0, labels), torch.tensor([-1, 0, 0, 1]), flags)
    assert found.ids.tolist() == [3, 5, 7]
    assert (found.stuff_ids.tolist(), found.stuff_classes.tolist()) == ([9], [2])
    assert found.ignored_ids.tolist() == [10], "a region to ignore is that, whatever its class"
    target = semantic_target(found)
    assert torch.equal(target == 3, labels == 9)
    assert torch.equal(torch.where(labels == 9, 0, target), semantic_target(without))
    boxes = torch.tensor([[18.0, 12, 12, 20, 20, 20], [2, 3, 4, 8, 9, 10], [10, 0, 0, 20, 8, 8]])
    for assigned in (
        lambda t: assign_proposals(boxes, t, positive=0.4, negative=0.2),
        lambda t: assign_anchors(boxes, (3,), 1, t),
    ):
        assert assigned(found).tolist() == assigned(without).tolist()
    assert assign_proposals(boxes, found, positive=0.4, negative=0.2)[0] == NEGATIVE
