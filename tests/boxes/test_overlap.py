from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.box_utils import box_giou, box_iou, box_pair_giou

from medseg.boxes.overlap import giou_matrix, giou_pairs, intersection_matrix, iom_matrix, iou_matrix, iou_pairs
from tests.boxes.drawn import counts, crowd, integer_crowd, seeds

MATRICES = [intersection_matrix, iou_matrix, giou_matrix, iom_matrix]


def filled(boxes: torch.Tensor, side: int = 20) -> torch.Tensor:
    """(N, side^3) bool voxels of integer boxes."""
    out = torch.zeros(len(boxes), side, side, side, dtype=torch.bool)
    for volume, (a, b, c, x, y, z) in zip(out, boxes.int().tolist(), strict=True):
        volume[a:x, b:y, c:z] = True
    return out.flatten(1)


def test_the_example_of_the_docstring():
    a, b = torch.tensor([[0.0, 0, 0, 4, 4, 4]]), torch.tensor([[2.0, 0, 0, 6, 4, 4]])
    assert intersection_matrix(a, b).item() == 32
    assert iou_matrix(a, b).item() == giou_matrix(a, b).item() == pytest.approx(1 / 3)
    assert iom_matrix(a, b).item() == 0.5


def test_counting_voxels_gives_the_same():
    a, b = integer_crowd(30, 1), integer_crowd(25, 2)
    p, r = filled(a).double(), filled(b).double()
    shared, sizes_a, sizes_b = p @ r.T, p.sum(1)[:, None], r.sum(1)[None]
    iou = shared / (sizes_a + sizes_b - shared)
    assert torch.equal(intersection_matrix(a, b), shared.float())
    assert torch.equal(iou_matrix(a.double(), b.double()), iou)
    assert torch.equal(iom_matrix(a.double(), b.double()), shared / torch.minimum(sizes_a, sizes_b))
    assert 0 < (shared > 0).float().mean() < 1


def test_giou_counts_the_enclosing_box_too():
    a, b = integer_crowd(12, 3), integer_crowd(12, 4)
    around = torch.cat([torch.minimum(a[:, :3], b[:, :3]), torch.maximum(a[:, 3:], b[:, 3:])], 1)
    p, r, c = (filled(x).double() for x in (a, b, around))
    union, hull = torch.maximum(p, r).sum(1), c.sum(1)
    expected = (p * r).sum(1) / union - (hull - union) / hull
    torch.testing.assert_close(giou_pairs(a.double(), b.double()), expected, rtol=0, atol=1e-15)


def test_monai_agrees():
    a, b = crowd(150, 5), crowd(130, 6)
    assert torch.equal(iou_matrix(a, b), box_iou(a, b))
    torch.testing.assert_close(giou_matrix(a, b), box_giou(a, b), rtol=0, atol=3e-7)
    torch.testing.assert_close(giou_pairs(a[:130], b), box_pair_giou(a[:130], b), rtol=0, atol=3e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64])
def test_a_box_is_exactly_itself(dtype):
    boxes = crowd(500, 7).to(dtype).clamp(min=0)
    boxes[:, 3:] = boxes[:, 3:].maximum(boxes[:, :3] + 1)
    tiny = (
        torch.tensor([[0.5, 0.5, 0.5, 0.6, 0.6, 0.6]])
        if dtype.is_floating_point
        else torch.tensor([[3, 3, 3, 4, 4, 4]])
    )
    boxes = torch.cat([boxes, tiny.to(dtype)])
    assert (iou_matrix(boxes, boxes).diagonal() == 1).all()
    assert (giou_pairs(boxes, boxes) == 1).all()
    assert (iom_matrix(boxes, boxes).diagonal() == 1).all()
    assert iou_pairs(boxes, boxes).dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_half_precision_does_not_overflow():
    big = torch.tensor([[0.0, 0, 0, 64, 64, 64]], dtype=torch.float16)  # 262144 voxels; float16 ends at 65504
    assert intersection_matrix(big, big).item() == 64**3


def test_empty_boxes_overlap_nothing():
    boxes = torch.tensor([[1.0, 1, 1, 1, 5, 5], [3, 3, 3, 2, 4, 4], [1, 1, 1, 1, 1, 1], [0, 0, 0, 4, 4, 4]])
    for matrix in (intersection_matrix, iou_matrix, iom_matrix):
        assert (matrix(boxes, boxes)[:3] == 0).all()
    assert torch.isfinite(giou_matrix(boxes, boxes)).all()


@given(seeds, counts, counts)
@settings(max_examples=25)
def test_overlap_has_no_sides_and_keeps_its_bounds(seed, n, m):
    a, b = crowd(n, seed, 30), crowd(m, seed + 1, 30)
    for matrix in MATRICES:
        assert matrix(a, b).shape == (n, m)
        assert torch.equal(matrix(a, b), matrix(b, a).T)
    iou, giou, iom = iou_matrix(a, b), giou_matrix(a, b), iom_matrix(a, b)
    assert ((iou >= 0) & (iou <= iom) & (iom <= 1 + 1e-6)).all()
    assert ((giou >= -1) & (giou <= iou + 1e-6)).all()


@given(seeds, st.permutations([0, 1, 2]), st.tuples(*[st.integers(-3, 3)] * 3), st.tuples(*[st.integers(-50, 50)] * 3))
@settings(max_examples=25)
def test_turning_scaling_and_moving_both_changes_nothing(seed, axes, powers, shift):
    a, b = crowd(20, seed, 30, torch.float64), crowd(20, seed + 1, 30, torch.float64)
    scale = torch.tensor([2.0**p for p in powers] * 2, dtype=torch.float64)
    index = [*axes, *(x + 3 for x in axes)]
    for matrix in (iou_matrix, giou_matrix, iom_matrix):
        expected = matrix(a, b)
        moved = matrix(a + torch.tensor(shift * 2), b + torch.tensor(shift * 2))
        torch.testing.assert_close(moved, expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(matrix(a * scale, b * scale), expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(matrix(a[:, index], b[:, index]), expected, rtol=0, atol=1e-12)
        flip = torch.tensor([-1.0, 1, 1, -1, 1, 1], dtype=torch.float64)
        mirrored = [(x * flip)[:, [3, 1, 2, 0, 4, 5]] for x in (a, b)]
        torch.testing.assert_close(matrix(*mirrored), expected, rtol=0, atol=1e-12)


def test_pairs_are_the_diagonal():
    a, b = crowd(40, 8), crowd(40, 9)
    assert torch.equal(iou_pairs(a, b), iou_matrix(a, b).diagonal())
    assert torch.equal(giou_pairs(a, b), giou_matrix(a, b).diagonal())


@pytest.mark.parametrize("pairs", [iou_pairs, giou_pairs])
def test_gradients_are_right(pairs):
    a = crowd(12, 10, 12, torch.float64).requires_grad_()
    b = crowd(12, 11, 12, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(pairs, (a, b))


def test_boxes_apart_have_a_slope_by_giou_only_and_empty_ones_no_nan():
    boxes = torch.tensor([[0.0, 0, 0, 2, 2, 2], [4, 4, 4, 4, 4, 4], [5, 5, 5, 3, 6, 6]], requires_grad=True)
    target = torch.tensor([[6.0, 0, 0, 8, 2, 2], [4, 4, 4, 4, 4, 4], [5, 5, 5, 6, 6, 6]])
    (1 - giou_pairs(boxes, target)).sum().backward()
    assert torch.isfinite(boxes.grad).all()
    assert boxes.grad[0, 3] < 0  # its high edge should move towards the target
    assert torch.autograd.grad(iou_pairs(boxes, target).sum(), boxes)[0][0].abs().sum() == 0


def test_unequal_numbers_of_pairs_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 6\) and \(1, 6\)"):
        iou_pairs(torch.zeros(3, 6), torch.zeros(1, 6))
