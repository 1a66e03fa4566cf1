"""Anchors reach nearly all objects, on levels that fit their size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medseg.boxes.anchor_sizes import best_iou
from medseg.training.plan.anchors import anchors_for

STRIDES = [(2, 2, 2), (4, 4, 4), (8, 8, 8)]


def test_the_shipped_level_for_vertebral_bodies():
    rng = np.random.default_rng(0)
    sizes = np.array([54.0, 40.0, 34.0]) * rng.uniform(0.9, 1.1, (150, 3))
    found = anchors_for(sizes, (2, 2, 2), STRIDES)
    assert found.sizes[0] == []
    assert len(found.sizes[1]) in (1, 2)
    shapes = np.array(found.sizes[1])  # the median body, 27 x 20 x 17 voxels, lies among them
    assert (shapes.min(0) <= [28, 21, 18]).all()
    assert (shapes.max(0) >= [26, 19, 16]).all()
    assert found.recall >= 0.95


@pytest.mark.parametrize("size_mm", [4.0, 12.0, 60.0])
def test_recall_is_what_brute_force_counts(size_mm):
    sizes = np.random.default_rng(1).lognormal(np.log(size_mm), 0.3, (80, 3))
    found = anchors_for(sizes, (1, 1, 1), STRIDES)
    zoomed = torch.from_numpy(np.concatenate([0.8 * sizes, sizes, 1.25 * sizes]))
    anchors = [torch.tensor(level, dtype=torch.float64).reshape(-1, 3) for level in found.sizes]
    strides = torch.tensor(STRIDES[: len(anchors)], dtype=torch.float64)
    share = float((best_iou(zoomed, anchors, strides) >= 0.5).double().mean())
    assert share == pytest.approx(found.recall, abs=0.1)  # sizes are rounded to voxels


def test_small_and_large_objects_need_several_levels():
    sizes = np.concatenate([np.full((50, 3), 6.0), np.full((50, 3), 60.0)])
    found = anchors_for(sizes, (1, 1, 1), STRIDES)
    assert sum(bool(level) for level in found.sizes) >= 2 or len(found.sizes[-1]) >= 2
    assert found.recall >= 0.5
