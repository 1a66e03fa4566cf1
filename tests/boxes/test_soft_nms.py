from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg.boxes.nms import nms
from medseg.boxes.overlap import iou_matrix
from medseg.boxes.soft_nms import soft_nms
from tests.boxes.drawn import counts, crowd, integer_crowd, scores, seeds

PAIR = torch.tensor([[0.0, 0, 0, 4, 4, 4], [2, 0, 0, 6, 4, 4]])


def published(boxes, score, decay, threshold, sigma, least):
    """Figure 2 of the paper, line by line: M, D, and s_i <- s_i f(iou(M, b_i))."""
    overlap = iou_matrix(boxes.double(), boxes.double()).tolist()
    left = {i: float(s) for i, s in enumerate(score.double())}
    kept = []
    while left:
        m = max(left, key=lambda i: (left[i], -i))
        kept.append((m, left.pop(m)))
        for i in left:
            iou = overlap[m][i]
            factor = (1 - iou if iou > threshold else 1) if decay == "linear" else math.exp(-(iou**2) / sigma)
            left[i] *= factor
    return [(i, s) for i, s in kept if s >= least]


def test_the_example_of_the_docstring():
    keep, new = soft_nms(PAIR, torch.tensor([0.9, 0.8]), decay="linear", threshold=0.3)
    assert keep.tolist() == [0, 1]
    assert new.tolist() == pytest.approx([0.9, 0.8 * 2 / 3])
    new = soft_nms(PAIR, torch.tensor([0.9, 0.8]), decay="gaussian", sigma=0.5)[1]
    assert new.tolist() == pytest.approx([0.9, 0.8 * math.exp(-2 / 9)])


@given(seeds, counts, st.sampled_from(["linear", "gaussian"]), st.sampled_from([0.1, 0.4]), st.sampled_from([0.2, 0.5]))
def test_the_published_rule_agrees(seed, n, decay, threshold, sigma):
    boxes, score = integer_crowd(n, seed, 6), scores(n, seed)
    keep, new = soft_nms(boxes, score.double(), decay=decay, threshold=threshold, sigma=sigma, min_score=0.01)
    want = published(boxes, score, decay, threshold, sigma, 0.01)
    assert keep.tolist() == [i for i, _ in want]
    assert new.tolist() == pytest.approx([s for _, s in want], abs=1e-12)


@given(seeds, st.integers(1, 40), st.sampled_from(["linear", "gaussian"]))
def test_scores_only_fall_and_the_best_box_keeps_its_own(seed, n, decay):
    boxes, score = crowd(n, seed, 25), scores(n, seed)
    keep, new = soft_nms(boxes, score, decay=decay, min_score=0.0)
    assert sorted(keep.tolist()) == list(range(n))
    assert (new <= score[keep]).all()
    assert (new.diff() <= 0).all()
    assert new[0] == score.max()
    scaled = soft_nms(boxes * 4, score, decay=decay, min_score=0.0)
    assert torch.equal(scaled[0], keep)


def test_it_finds_the_neighbour_that_hard_suppression_deletes():
    score = torch.tensor([0.9, 0.8])
    assert nms(PAIR, score, 0.3).tolist() == [0]
    assert soft_nms(PAIR, score)[0].tolist() == [0, 1]
    assert soft_nms(PAIR, score, min_score=0.6)[0].tolist() == [0]


def test_a_copy_is_gone_under_linear_decay():
    keep, _ = soft_nms(PAIR[[0, 0, 1]], torch.tensor([0.9, 0.85, 0.1]))
    assert keep.tolist() == [0, 2]


def test_no_boxes_and_empty_ones():
    keep, new = soft_nms(torch.empty(0, 6), torch.empty(0))
    assert keep.dtype == torch.int64
    assert keep.shape == new.shape == (0,)
    flat = torch.tensor([[1.0, 1, 1, 1, 5, 5], [1, 1, 1, 1, 5, 5]])
    assert soft_nms(flat, torch.tensor([0.5, 0.7]))[1].tolist() == pytest.approx([0.7, 0.5])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"got 'cosine' and 0.5"):
        soft_nms(PAIR, torch.ones(2), decay="cosine")
    with pytest.raises(ValueError, match="sigma > 0"):
        soft_nms(PAIR, torch.ones(2), decay="gaussian", sigma=0.0)
    with pytest.raises(ValueError, match=r"got \(3,\)"):
        soft_nms(PAIR, torch.ones(3))
