from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.box_utils import batched_nms, non_max_suppression

from medseg.boxes.nms import claims, nms, nms_by_class
from medseg.boxes.overlap import iou_matrix
from tests.boxes.drawn import counts, crowd, integer_crowd, scores, seeds


def plain(boxes: torch.Tensor, score: torch.Tensor, threshold: float) -> list[int]:
    """Greedy suppression as it is told in a sentence."""
    kept: list[int] = []
    apart = (iou_matrix(boxes, boxes) <= threshold).tolist()
    for i in sorted(range(len(score)), key=lambda i: (-score[i], i)):
        if all(apart[i][k] for k in kept):
            kept.append(i)
    return kept


def test_by_hand():
    boxes = torch.tensor([[0.0, 0, 0, 4, 4, 4], [2, 0, 0, 6, 4, 4], [4, 0, 0, 8, 4, 4], [20, 0, 0, 24, 4, 4]])
    score = torch.tensor([0.6, 0.9, 0.7, 0.1])  # the second overlaps the first and the third by 1/3 each
    assert nms(boxes, score, 0.3).tolist() == [1, 3]
    assert nms(boxes, score, 0.34).tolist() == [1, 2, 0, 3]
    order, owner = claims(boxes, score, 0.3)
    assert order.tolist() == [1, 2, 0, 3]
    assert owner.tolist() == [0, 0, 0, 3]


def test_an_overlap_on_the_threshold_is_kept():
    boxes = torch.tensor([[0.0, 0, 0, 4, 4, 4], [0, 0, 0, 4, 4, 2]])  # IoU exactly 1/2
    assert nms(boxes, torch.tensor([0.9, 0.8]), 0.5).tolist() == [0, 1]
    assert nms(boxes, torch.tensor([0.9, 0.8]), 0.49).tolist() == [0]


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.3, 0.5, 0.7, 1 / 3])
@pytest.mark.parametrize("seed", range(3))
def test_indices_are_monais(threshold, seed):
    for boxes in (crowd(300, seed, 40), integer_crowd(300, seed)):
        score = scores(300, seed)
        kept = nms(boxes, score, threshold)
        assert torch.equal(kept, non_max_suppression(boxes, score, threshold))
        assert kept.dtype == torch.int64
        assert 1 < len(kept) < 300 or threshold == 0.7


def test_indices_are_monais_where_the_threshold_is_the_overlap_itself():
    """Float32 rounding decides here: a step fused or left out would show."""
    a, b = crowd(600, 12, 14), crowd(600, 13, 14)
    score, differ = torch.tensor([0.9, 0.8]), 0
    overlap = iou_matrix(a, b).diagonal()
    for x, y, t in zip(a, b, overlap, strict=True):
        both = torch.stack([x, y])
        for threshold in (t.item(), torch.nextafter(t, torch.tensor(0.0)).item()):
            differ += nms(both, score, threshold).tolist() != non_max_suppression(both, score, threshold).tolist()
    assert (overlap > 0).sum() > 300
    assert differ == 0


@given(seeds, counts, st.sampled_from([0.0, 0.2, 0.5, 0.8]))
@settings(max_examples=30)
def test_a_sentence_of_python_agrees(seed, n, threshold):
    boxes, score = integer_crowd(n, seed, 6), scores(n, seed)
    assert nms(boxes, score, threshold).tolist() == plain(boxes, score, threshold)
    assert nms(boxes.double(), score, threshold).tolist() == plain(boxes.double(), score, threshold)


@given(seeds, st.integers(1, 60), st.sampled_from([0.1, 0.5]))
@settings(max_examples=25)
def test_what_is_kept_is_apart_and_what_is_dropped_had_a_better_neighbour(seed, n, threshold):
    boxes, score = crowd(n, seed, 25), scores(n, seed)
    kept = nms(boxes, score, threshold)
    overlap = iou_matrix(boxes, boxes)
    among = overlap[kept][:, kept].fill_diagonal_(0)
    assert (among <= threshold).all()
    dropped = sorted(set(range(n)) - set(kept.tolist()))
    assert all(((overlap[d, kept] > threshold) & (score[kept] >= score[d])).any() for d in dropped)
    assert torch.equal(nms(boxes[kept], score[kept], threshold), torch.arange(len(kept))), "twice is once"


@given(seeds, st.randoms(use_true_random=False))
@settings(max_examples=20)
def test_the_order_given_does_not_matter_without_ties(seed, random):
    boxes, score = crowd(40, seed, 25), torch.linspace(0.1, 1, 40)
    index = torch.tensor(random.sample(range(40), 40))
    assert torch.equal(index[nms(boxes[index], score[index], 0.2)], nms(boxes, score, 0.2))


def test_a_limit_stops_early_with_the_same_boxes():
    boxes, score = crowd(200, 1), scores(200, 1)
    everything = nms(boxes, score, 0.1)
    for limit in (0, 1, 7, len(everything), 1000):
        assert torch.equal(nms(boxes, score, 0.1, limit=limit), everything[:limit])


def test_by_class_is_one_suppression_each():
    boxes, score = integer_crowd(200, 2), scores(200, 2)
    classes = torch.randint(0, 3, (200,), generator=torch.Generator().manual_seed(2))
    got = nms_by_class(boxes, score, classes, 0.3)
    assert torch.equal(got, batched_nms(boxes, score, classes, 0.3))  # whole voxels: MONAI's shift rounds nothing
    assert torch.equal(
        got[classes[got] == 1], (classes == 1).nonzero()[:, 0][nms(boxes[classes == 1], score[classes == 1], 0.3)]
    )
    assert torch.equal(nms_by_class(boxes, score, classes, 0.3, limit=9), got[:9])
    assert torch.equal(nms_by_class(boxes, score, classes * 0 + 5, 0.3), nms(boxes, score, 0.3))


def test_no_boxes():
    none = torch.empty(0, 6)
    assert nms(none, torch.empty(0), 0.5).shape == (0,)
    assert nms_by_class(none, torch.empty(0), torch.empty(0, dtype=torch.int64), 0.5).dtype == torch.int64


def test_half_precision_and_gradients_pass():
    boxes, score = integer_crowd(50, 3), scores(50, 3)
    expected = nms(boxes, score, 0.3)
    assert torch.equal(nms(boxes.half(), score.half(), 0.3), expected)
    assert torch.equal(nms(boxes.requires_grad_(), score.requires_grad_(), 0.3), expected)


def test_nan_and_empty_boxes_claim_nothing():
    boxes = torch.tensor([[0.0, 0, 0, 4, 4, float("nan")], [0, 0, 0, 4, 4, 4], [1, 1, 1, 1, 3, 3], [0, 0, 0, 4, 4, 4]])
    assert nms(boxes, torch.tensor([0.9, 0.8, 0.85, 0.7]), 0.1).tolist() == [0, 2, 1]


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"got \(3, 4\)"):
        nms(torch.zeros(3, 4), torch.zeros(3), 0.5)
    with pytest.raises(ValueError, match=r"3 boxes need one score \(and class\) each, got \(2,\)"):
        nms(torch.zeros(3, 6), torch.zeros(2), 0.5)
    with pytest.raises(ValueError, match=r"got \(1,\)"):
        nms_by_class(torch.zeros(3, 6), torch.zeros(3), torch.zeros(1), 0.5)


@pytest.mark.gpu
def test_a_gpu_keeps_the_same():
    boxes, score = crowd(500, 4), scores(500, 4)
    kept = nms(boxes.cuda(), score.cuda(), 0.2)
    assert kept.is_cuda
    assert torch.equal(kept.cpu(), nms(boxes, score, 0.2))
