"""Heads: shapes, what a box head knows of size, what dropout reaches, and stuff by the likeliest of all classes."""

from __future__ import annotations

import pytest
import torch

from medseg.networks.heads import BoxHead, MaskHead, SemanticHead, block, cell_centres, stuff_of


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


@torch.no_grad()
def test_a_box_head_begins_with_the_box_as_it_is_and_knows_its_size():
    torch.manual_seed(0)
    head = BoxHead(8, 3, width=32).eval()
    features = torch.randn(1, 8, 7, 7, 7).expand(2, -1, -1, -1, -1)
    boxes = torch.tensor([[0.0, 0, 0, 4, 4, 4], [0, 0, 0, 32, 8, 4]])
    classes, codes = head(features, boxes)
    assert (classes.shape, codes.shape) == ((2, 4), (2, 6))
    assert codes.abs().max() < 0.05
    assert not torch.allclose(classes[0], classes[1])  # RoIAlign made them alike; one is larger
    torch.testing.assert_close(head(features, boxes + 9)[0], classes)  # where it lies does not matter
    assert all(out.isfinite().all() for out in head(features, torch.zeros(2, 6)))
    assert [len(out) for out in head(features[:0], boxes[:0])] == [0, 0]


@pytest.mark.parametrize(("scale", "masks", "wanted"), [((2, 2, 2), 1, (1, 8, 12, 16)), ((1, 2, 2), 3, (3, 4, 12, 16))])
@torch.no_grad()
def test_a_mask_is_as_many_times_finer_as_asked(scale, masks, wanted):
    head = MaskHead(6, masks, width=4, scale=scale).eval()
    features = torch.randn(2, 6, 4, 6, 8)
    logits = head(features)
    assert logits.shape == (2, *wanted)
    torch.testing.assert_close(logits[1:], head(features[1:]))  # boxes are apart
    assert head.bfloat16()(features.bfloat16()).dtype == torch.float32


@torch.no_grad()
def test_a_mask_may_depend_on_the_place_in_its_box_even_in_the_middle():
    """Where everything looks alike, convolutions know where they are near the sides alone."""
    torch.manual_seed(0)
    logits = MaskHead(6, width=4)(torch.ones(1, 6, 14, 14, 14))[0, 0]
    middle = logits[12:16, 12:16, 12:16]
    assert len(middle.unique()) == middle.numel()


@torch.no_grad()
def test_cells_lie_between_the_sides_of_a_box():
    where = cell_centres(torch.zeros(5, 2, 2, 4, 1))
    assert where.shape == (1, 3, 2, 4, 1)
    assert where[0, 0, :, 0, 0].tolist() == [-0.5, 0.5]
    assert where[0, 1, 0, :, 0].tolist() == [-0.75, -0.25, 0.25, 0.75]
    assert where[0, 2].unique().tolist() == [0.0]


@torch.no_grad()
def test_dropout_stands_before_the_last_layer_alone():
    torch.manual_seed(0)
    head = BoxHead(8, 1, dropout=0.5).train()
    seen = []
    head.hidden.register_forward_hook(lambda module, args, output: seen.append(output.clone()))
    features, boxes = torch.randn(1, 8, 7, 7, 7), torch.tensor([[0.0, 0, 0, 4, 4, 4]])
    (first, _), (second, _) = head(features, boxes), head(features, boxes)
    assert torch.equal(*seen)
    assert not torch.equal(first, second)


@torch.no_grad()
def test_a_block_keeps_the_scale_of_what_comes_in():
    torch.manual_seed(0)
    x = torch.randn(4, 32, 12, 12, 12)
    for _ in range(3):
        x = torch.nn.Sequential(*block(32, 32, padding=1))(x)
    inner = x[..., 3:-3, 3:-3, 3:-3]
    assert 0.7 < float(inner.square().mean().sqrt()) < 1.4
    assert torch.nn.Sequential(*block(4, 5, padding=0))(torch.zeros(1, 4, 5, 6, 7)).shape == (1, 5, 3, 4, 5)
