"""What is read from the semantic head: stuff by the likeliest of all classes (boxes and masks: test_mask_rcnn)."""

from __future__ import annotations

import torch

from medseg.networks.heads import SemanticHead, stuff_of


def test_stuff_is_where_it_is_the_likeliest_of_all():
    """Background, 2 classes of things, 2 of stuff; a voxel a row."""
    logits = torch.tensor(
        [
            [5.0, 0, 0, 0, 0],  # background
            [0, 5, 4, 4, 0],  # a thing, and no instance of it may be there: not stuff all the same
            [0, 0, 5, 4, 4],
            [1, 2, 2, 3, 0],
            [0, 0, 0, 1, 2],
            [-9, -9, -9, -8, -9],
        ]
    )
    found = stuff_of(logits.T[None, :, :, None, None], 2)
    assert found.dtype == torch.uint8
    assert found[0, :, 0, 0].tolist() == [0, 0, 0, 3, 4, 3]


def test_the_head_has_a_channel_for_each_class_and_the_background():
    _, logits = SemanticHead(4, 8, 3 + 2)(torch.zeros(1, 4, 8, 8, 8), torch.zeros(1, 8, 4, 4, 4))
    assert logits.shape == (1, 6, 8, 8, 8)
