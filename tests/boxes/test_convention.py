from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.data.box_utils import box_area, box_centers, clip_boxes_to_image
from scipy.ndimage import find_objects

from medseg.boxes.convention import (
    boxes_of_instances,
    centres,
    clip,
    cut_by_border,
    geometric_mean_size,
    sizes,
    to_mm,
    volumes,
)

EXAMPLE = torch.tensor([[1.0, 2, 5, 2, 4, 6]])


def some_boxes(n: int = 200, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    low = torch.rand(n, 3, generator=rng) * 60 - 10
    return torch.cat([low, low + torch.rand(n, 3, generator=rng) * 30], 1)


def by_find_objects(labels: np.ndarray) -> tuple[list[int], list[list[int]]]:
    found = {
        value + 1: [s.start for s in where] + [s.stop for s in where]
        for value, where in enumerate(find_objects(labels))
        if where
    }
    return list(found), list(found.values())


def test_the_example_of_the_docstring():
    labels = torch.zeros(4, 8, 8, dtype=torch.int16)
    labels[1, 2, 5] = labels[1, 3, 5] = 3
    ids, boxes = boxes_of_instances(labels)
    assert ids.tolist() == [3]
    assert torch.equal(boxes, EXAMPLE)
    assert sizes(boxes).tolist() == [[1, 2, 1]]
    assert volumes(boxes).tolist() == [2]
    assert centres(boxes).tolist() == [[1.5, 3, 5.5]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16, torch.int32, torch.int64])
def test_boxes_of_instances_are_those_of_find_objects(dtype):
    rng = np.random.default_rng(1)
    labels = (rng.integers(0, 40, (9, 11, 13)) * (rng.random((9, 11, 13)) < 0.2)).astype(np.int64)
    labels[labels == 17] = 0  # ids need not be consecutive
    ids, boxes = boxes_of_instances(torch.from_numpy(labels).to(dtype))
    expected = by_find_objects(labels)
    assert (ids.tolist(), boxes.int().tolist()) == expected
    assert ids.dtype == torch.int64
    assert boxes.dtype == torch.float32


@pytest.mark.parametrize("background", [True, False])
def test_ids_too_large_for_a_table_of_ids(background):
    labels = torch.full((4, 5, 6), 0 if background else 7, dtype=torch.int64)
    labels[1:3, 2, 3:6] = 2**40
    labels[0, 0, 0] = 2**40 + 1
    ids, boxes = boxes_of_instances(labels)
    rest = [] if background else [([7], [0, 0, 0, 4, 5, 6])]
    assert ids.tolist() == [i for (i,), _ in rest] + [2**40, 2**40 + 1]
    assert boxes.tolist() == [b for _, b in rest] + [[1, 2, 3, 3, 3, 6], [0, 0, 0, 1, 1, 1]]


@given(
    seed=st.integers(0, 10_000),
    axes=st.permutations([0, 1, 2]),
    flips=st.tuples(*[st.booleans()] * 3),
    by=st.integers(0, 3),
)
@settings(max_examples=30)
def test_boxes_follow_permuted_flipped_and_padded_maps(seed, axes, flips, by):
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(rng.integers(0, 4, (5, 6, 7)) * (rng.random((5, 6, 7)) < 0.1))
    ids, boxes = boxes_of_instances(labels)
    n = torch.tensor(labels.shape)
    low, high = boxes[:, :3], boxes[:, 3:]
    turned = torch.tensor(flips)
    low, high = torch.where(turned, n - high, low), torch.where(turned, n - low, high)
    moved = torch.nn.functional.pad(labels.flip([a for a in range(3) if flips[a]]), [by] * 6)
    again, got = boxes_of_instances(moved.permute(axes))
    assert torch.equal(again, ids)
    assert torch.equal(got, torch.cat([low[:, axes], high[:, axes]], 1) + by)


def test_a_metatensor_and_a_view_are_maps_too():
    labels = torch.zeros(6, 7, 8, dtype=torch.int32)
    labels[2, 3:5, 4] = 1
    expected = [[2, 3, 4, 3, 5, 5]]
    assert boxes_of_instances(MetaTensor(labels))[1].tolist() == expected
    view = labels.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    assert not view.is_contiguous()
    assert boxes_of_instances(view)[1].tolist() == expected


@pytest.mark.parametrize("shape", [(3, 4, 5), (0, 4, 5)])
def test_a_map_without_instances(shape):
    ids, boxes = boxes_of_instances(torch.zeros(shape, dtype=torch.int32))
    assert ids.shape == (0,)
    assert boxes.shape == (0, 6)
    for function in (centres, sizes, volumes):
        assert len(function(boxes)) == 0
    assert (
        clip(boxes, (1, 1, 1)).shape == cut_by_border(boxes, (1, 1, 1)).shape == to_mm(boxes, np.eye(4)).shape == (0, 6)
    )


def test_what_is_no_instance_map_is_refused():
    with pytest.raises(ValueError, match=r"\(D, H, W\) integers, got \(1, 2, 3, 4\)"):
        boxes_of_instances(torch.zeros(1, 2, 3, 4, dtype=torch.int32))
    with pytest.raises(ValueError, match=r"torch.float32"):
        boxes_of_instances(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match="found -1"):
        boxes_of_instances(torch.full((2, 3, 4), -1))


def test_sizes_volumes_centres_and_clipping_are_monais():
    boxes = some_boxes()
    assert torch.equal(volumes(boxes), box_area(boxes))
    torch.testing.assert_close(centres(boxes), box_centers(boxes))
    clipped, inside = clip_boxes_to_image(boxes, (40, 30, 50), remove_empty=False)
    assert len(inside) == len(boxes)
    assert torch.equal(clip(boxes, (40, 30, 50)), clipped)


def test_an_empty_box_has_no_volume():
    assert volumes(torch.tensor([[5.0, 0, 0, 3, 4, 4], [1, 1, 1, 1, 9, 9]])).tolist() == [0, 0]
    outside = clip(torch.tensor([[-9.0, 1, 1, -2, 4, 4]]), (8, 8, 8))
    assert volumes(outside).tolist() == [0]


def test_geometric_mean_size_of_a_slab():
    box = torch.tensor([[0.0, 0, 0, 2, 8, 4]])  # 2 x 4 mm, 8 x 1 mm, 4 x 2 mm
    assert geometric_mean_size(box, (4.0, 1.0, 2.0)).tolist() == pytest.approx([8.0])


def test_cut_by_border_names_the_sides():
    boxes = torch.tensor([[0.0, 1, 1, 4, 5, 8], [0.5, 1, 1, 4, 5, 7.25], [2, 2, 2, 3, 3, 3]])
    low_high = [[True, False, False, False, False, True], [False] * 6, [False] * 6]
    assert cut_by_border(boxes, (6, 7, 8)).tolist() == low_high
    assert cut_by_border(boxes, (6, 7, 8), tolerance=0.75).any(1).tolist() == [True, True, False]


@pytest.mark.parametrize("oblique", [False, True])
def test_millimetres_enclose_the_eight_corners(oblique):
    rng = np.random.default_rng(3)
    affine = np.eye(4)
    affine[:3, :3] = np.diag([-0.7, 2.5, 1.0]) + oblique * rng.normal(0, 0.3, (3, 3))
    affine[:3, 3] = 12.0, -40.0, 7.0
    boxes = some_boxes(20)
    got = to_mm(boxes, affine).numpy()
    for box, mm in zip(boxes.double().numpy(), got, strict=True):
        corners = np.array(np.meshgrid(*zip(box[:3], box[3:], strict=True))).reshape(3, -1) - 0.5
        world = affine[:3, :3] @ corners + affine[:3, 3:]
        np.testing.assert_allclose(mm, [*world.min(1), *world.max(1)], atol=1e-9)


def test_a_voxel_lies_around_its_centre_in_millimetres():
    affine = np.diag([-2.0, 1.0, 3.0, 1.0])
    assert to_mm(torch.tensor([[5.0, 0, 0, 6, 1, 1]]), affine).tolist() == [[-11, -0.5, -1.5, -9, 0.5, 1.5]]
