"""Which level a box is read from, and that all boxes come back in their order."""

from __future__ import annotations

import torch

from medseg.networks.pooler import assigned_level, pool, with_image

STRIDES = [(2, 2, 2), (4, 4, 4), (8, 8, 8)]


def cube(side: float) -> list[float]:
    return [10.0, 10, 10, 10 + side, 10 + side, 10 + side]


def test_all_levels_are_used_and_the_size_decides():
    sides = [3, 10, 14, 25, 30, 60, 200]
    levels = assigned_level(torch.tensor([cube(s) for s in sides]), STRIDES, 7)
    assert levels.tolist() == [0, 0, 0, 1, 1, 2, 2]


def test_thick_slices_count_by_their_own_stride():
    strides = [(1, 2, 2), (1, 4, 4), (2, 8, 8)]
    flat = torch.tensor([[0.0, 0, 0, 7, 28, 28]])
    assert assigned_level(flat, strides, 7).tolist() == [1]
    assert assigned_level(flat, [(2, 2, 2), (4, 4, 4), (8, 8, 8)], 7).tolist() == [0]


def test_every_box_gets_the_features_of_its_own_image_and_level():
    torch.manual_seed(0)
    levels = [torch.full((2, 1, n, n, n), 0.0) for n in (16, 8, 4)]
    for index, level in enumerate(levels):
        for image in range(2):
            level[image] = 10 * image + index
    inside = torch.tensor([[4.0, 4, 4, 18, 18, 18], [2, 2, 2, 30, 30, 30]])
    boxes = [inside[[1, 0]], inside[[0]]]
    out = pool(levels, STRIDES, boxes, 3, target=7)
    assert out[:, 0].flatten(1).mean(1).tolist() == [1.0, 0.0, 10.0]
    assert with_image(boxes)[:, 0].tolist() == [0, 0, 1]
    assert pool(levels, STRIDES, [torch.zeros(0, 6)] * 2, 3, target=7).shape == (0, 1, 3, 3, 3)
