"""What a step learns from."""

from __future__ import annotations

import torch

from medseg.networks.sampling import LEAST_NEGATIVES, POOL, anchor_sample, jittered, proposal_sample


def test_positives_and_the_hardest_negatives():
    torch.manual_seed(0)
    matched = torch.full((1000,), -1)
    matched[:100] = 0
    matched[100:200] = -2
    logits = torch.arange(1000.0)
    taken = anchor_sample(matched, logits, count=30)
    assert (matched[taken] >= 0).sum() == 10
    negative = taken[matched[taken] == -1]
    assert len(negative) == 20
    assert negative.min() >= 1000 - 20 * POOL
    assert len(set(taken.tolist())) == len(taken)
    assert not (matched[taken] == -2).any()


def test_an_image_without_objects_teaches_background():
    taken = anchor_sample(torch.full((50,), -1), torch.zeros(50))
    assert len(taken) == LEAST_NEGATIVES
    assert len(anchor_sample(torch.full((3,), -2), torch.zeros(3))) == 0


def test_proposals_are_at_most_a_third_positive():
    owners = torch.tensor([0] * 40 + [-1] * 60 + [-2] * 10)
    taken = proposal_sample(owners, 30)
    assert (owners[taken] >= 0).sum() == 10
    assert (owners[taken] == -1).sum() == 20


def test_boxes_near_true_ones_overlap_them():
    boxes = torch.tensor([[0.0, 0, 0, 10, 20, 30], [5, 5, 5, 9, 9, 9]])
    near = jittered(boxes)
    assert near.shape == (8, 6)
    overlap = (
        torch.minimum(near[:, 3:], boxes.repeat(4, 1)[:, 3:]) > torch.maximum(near[:, :3], boxes.repeat(4, 1)[:, :3])
    ).all(1)
    assert overlap.all()
    assert not torch.equal(near[:2], boxes)
