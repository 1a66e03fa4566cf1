"""What follows from an instance map: boxes after deformation, matches, mask targets, and what is left out."""

from __future__ import annotations

import torch

from medseg.networks.truth import (
    BOX_ONLY,
    IGNORED,
    LEFT_OUT,
    MASK,
    NEGATIVE,
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
    return truth_of(scene(), torch.tensor([0, 0, 0, 1, 0, 2]), torch.tensor([0, 0, 0, MASK, 0, BOX_ONLY, 0, kind]))


def test_boxes_and_classes_come_from_the_map_and_the_tables():
    found = truth()
    assert found.ids.tolist() == [3, 5]
    assert found.boxes.tolist() == [[2, 3, 4, 8, 9, 10], [12, 12, 10, 16, 18, 15]]
    assert found.classes.tolist() == [1, 2]
    assert found.has_mask.tolist() == [True, False]
    assert found.ignored_ids.tolist() == [7]
    assert truth(MASK).classes.tolist() == [1, 2, 0]


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


def test_a_mask_target_is_the_instance_seen_in_its_box():
    found = truth(MASK)
    exact = mask_targets(found, torch.tensor([0]), found.boxes[:1], (6, 6, 6))
    assert exact.shape == (1, 6, 6, 6)
    assert exact.all()
    half = torch.tensor([[-1.0, 3, 4, 5, 9, 10]])  # from 3 voxels before it to its middle
    seen = mask_targets(found, torch.tensor([0]), half, (6, 6, 6))[0]
    assert not seen[:3].any()
    assert seen[3:].all()
    other = mask_targets(found, torch.tensor([1]), found.boxes[:1], (6, 6, 6))
    assert not other.any()
