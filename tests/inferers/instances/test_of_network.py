"""From a network's detections to instances: pasted, without doubles and without empty masks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medseg.errors import UsageError
from medseg.inferers.instances.of_network import instances_of, segment_tile
from medseg.networks.detections import Detections

A, NEAR_A, B = [1, 1, 1, 5, 5, 5], [1, 1, 1, 5, 5, 6], [8, 8, 8, 12, 12, 12]


def found(boxes, scores, masks=None, classes=None) -> Detections:
    masks = torch.ones(len(boxes), 4, 4, 4) if masks is None else masks
    kinds = torch.tensor(classes if classes is not None else [0] * len(boxes), dtype=torch.int64)
    return Detections(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 6), torch.tensor(scores), kinds, masks)


def test_masks_become_the_voxels_of_their_boxes_by_falling_score():
    out = instances_of(found([A, B], [0.2, 0.9], classes=[1, 0]), (16, 16, 16))
    assert out.scores.tolist() == pytest.approx([0.9, 0.2])
    assert out.classes.tolist() == [0, 1]
    assert out.boxes.tolist() == [B, A]
    assert [(m.low, m.high) for m in out.masks] == [((8, 8, 8), (12, 12, 12)), ((1, 1, 1), (5, 5, 5))]
    assert all((m.probability == 1).all() for m in out.masks)


@pytest.mark.parametrize("classes", [[0, 0], [0, 1]])
def test_what_is_double_by_its_voxels_goes_whatever_its_class(classes):
    both = found([A, NEAR_A], [0.5, 0.6], classes=classes)  # IoU 64 / 80
    assert instances_of(both, (16, 16, 16)).boxes.tolist() == [NEAR_A]
    assert len(instances_of(both, (16, 16, 16), iou=0.81, iom=None)) == 2
    assert len(instances_of(both, (16, 16, 16), iou=0.79, iom=None)) == 1
    assert len(instances_of(both, (16, 16, 16), iou=None, iom=0.9)) == 1
    assert len(instances_of(both, (16, 16, 16), iou=None, iom=None)) == 2


def test_boxes_that_overlap_stay_where_their_masks_do_not():
    masks = torch.zeros(2, 4, 4, 4)
    masks[0, :, :, :2], masks[1, :, :, 2:] = 1, 1
    assert len(instances_of(found([A, A], [0.9, 0.8], masks), (16, 16, 16))) == 2


def test_empty_masks_and_boxes_without_a_voxel_are_no_instances():
    masks = torch.ones(4, 4, 4, 4)
    masks[1] = 0.4
    boxes = [A, B, [20, 20, 20, 24, 24, 24], [3, 3, 3, 3, 3, 3]]  # sound, nowhere sure, outside, of no size
    out = instances_of(found(boxes, [0.1, 0.9, 0.8, 0.7], masks), (16, 16, 16))
    assert out.boxes.tolist() == [A]
    assert len(instances_of(found([], []), (16, 16, 16))) == 0


def test_a_list_of_masks_of_any_fineness_is_pasted_as_a_tensor_is():
    torch.manual_seed(0)
    masks = torch.rand(2, 4, 4, 4)
    many, listed = (instances_of(found([A, B], [0.9, 0.8], m), (16, 16, 16)) for m in (masks, list(masks)))
    for a, b in zip(many.masks, listed.masks, strict=True):
        assert torch.equal(a.probability, b.probability)
    finer = [masks[0].repeat_interleave(2, 0), masks[1]]
    assert len(instances_of(found([A, B], [0.9, 0.8], finer), (16, 16, 16))) == 2


def test_numbers_that_do_not_fit_are_refused():
    with pytest.raises(UsageError) as caught:
        instances_of(found([A, B], [0.9, 0.8], torch.ones(1, 4, 4, 4)), (16, 16, 16))
    assert caught.value.code == "MS-U370"


def test_a_tile_goes_through_the_network_without_gradients_also_under_autocast():
    class Finds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x):
            assert x.shape == (1, 1, 9, 16, 16)
            return [found([[1, 1, 1, 12, 5, 5]], [0.9], torch.ones(1, 4, 4, 4).bfloat16() * self.scale)]

    with torch.autocast("cpu", torch.bfloat16):
        out = segment_tile(torch.zeros(1, 1, 9, 16, 16), Finds())
    (mask,) = out.masks
    assert (mask.low, mask.high) == ((1, 1, 1), (9, 5, 5))  # cut at the tile's end
    assert mask.probability.dtype == torch.float32
    assert not mask.probability.requires_grad
