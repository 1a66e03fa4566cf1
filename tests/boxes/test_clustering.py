from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg.boxes.clustering import cluster_boxes
from medseg.boxes.nms import nms
from medseg.boxes.overlap import iou_matrix
from tests.boxes.drawn import counts, crowd, scores, seeds

PAIR = torch.tensor([[0.0, 0, 0, 4, 4, 4], [0, 0, 0, 4, 4, 3]])
SCORES = torch.tensor([0.9, 0.5])


def published(boxes, score, threshold, weights, expected, sources):
    """Weighted box clustering as the Medical Detection Toolkit writes it, on edges instead of voxel indices."""
    areas = np.prod(boxes[:, 3:] - boxes[:, :3], axis=1)
    order = np.argsort(-score, kind="stable")
    keep_scores, keep_boxes, keep_members = [], [], []
    overlap = iou_matrix(torch.from_numpy(boxes), torch.from_numpy(boxes)).numpy()
    while order.size:
        i = order[0]
        matches = order[(overlap[i, order] > threshold) | (order == i)]
        match_weights = overlap[i, matches] * areas[matches] * weights[matches]
        match_scores = score[matches] * match_weights
        n_expected = np.mean(expected[matches])
        n_missing = max(0.0, n_expected - len(np.unique(sources[matches])))
        denominator = match_weights.sum() + n_missing * match_weights.mean()
        keep_scores.append(match_scores.sum() / denominator)
        keep_boxes.append((boxes[matches] * match_scores[:, None]).sum(0) / match_scores.sum())
        keep_members.append(matches.tolist())
        order = np.array([o for o in order if o not in set(matches.tolist())], dtype=int)
    rank = np.argsort(-np.array(keep_scores), kind="stable")
    return np.array(keep_boxes)[rank], np.array(keep_scores)[rank], [keep_members[r] for r in rank]


def test_the_example_of_the_docstring():
    got = cluster_boxes(PAIR, SCORES, 0.5)
    assert got.boxes.tolist() == [pytest.approx([0, 0, 0, 4, 4, (4 * 57.6 + 3 * 18) / 75.6])]
    assert got.scores.tolist() == pytest.approx([0.756])
    assert [m.tolist() for m in got.members] == [[0, 1]]
    assert cluster_boxes(PAIR, SCORES, 0.5, expected=3).scores.tolist() == pytest.approx([0.504])
    assert len(cluster_boxes(PAIR, SCORES, 0.8).members) == 2


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threshold", [0.1, 0.4])
def test_the_published_rule_agrees(seed, threshold):
    n = 80
    rng = np.random.default_rng(seed)
    boxes = crowd(n, seed, 25, torch.float64)
    score, weights = rng.random(n), rng.uniform(0.2, 1, n)
    expected, sources = rng.integers(1, 8, n).astype(float), rng.integers(0, 4, n)
    want = published(boxes.numpy(), score, threshold, weights, expected, sources)
    got = cluster_boxes(
        boxes,
        torch.from_numpy(score),
        threshold,
        weights=torch.from_numpy(weights),
        expected=torch.from_numpy(expected),
        sources=torch.from_numpy(sources),
    )
    np.testing.assert_allclose(got.boxes, want[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(got.scores, want[1], rtol=0, atol=1e-12)
    assert [m.tolist() for m in got.members] == want[2]
    assert len(got.members) < n


@given(seeds, counts, st.sampled_from([0.1, 0.5]))
def test_clusters_are_a_partition_led_by_what_suppression_keeps(seed, n, threshold):
    boxes, score = crowd(n, seed, 20), scores(n, seed)
    got = cluster_boxes(boxes, score, threshold)
    assert sorted(i for m in got.members for i in m.tolist()) == list(range(n))
    assert sorted(got.best.tolist()) == sorted(nms(boxes, score, threshold).tolist())
    assert (got.scores.diff() <= 0).all()
    for box, mean, members in zip(got.boxes, got.scores, got.members, strict=True):
        assert (score[members].diff() <= 0).all()
        assert score[members].min() - 1e-6 <= mean <= score[members].max() + 1e-6
        assert (boxes[members].amin(0) - 1e-4 <= box).all()
        assert (box <= boxes[members].amax(0) + 1e-4).all()


@given(seeds, st.tuples(*[st.integers(-40, 40)] * 3), st.sampled_from([0.25, 2.0]))
def test_moving_and_scaling_moves_and_scales_the_means(seed, shift, scale):
    boxes, score = crowd(30, seed, 20, torch.float64), torch.rand(30, generator=torch.Generator().manual_seed(seed))
    before = cluster_boxes(boxes, score, 0.2)
    after = cluster_boxes((boxes + torch.tensor(shift * 2)) * scale, score, 0.2)
    torch.testing.assert_close(after.boxes, (before.boxes + torch.tensor(shift * 2)) * scale)
    torch.testing.assert_close(after.scores, before.scores)


def test_equal_predictions_of_all_models_change_nothing_and_fewer_lower_the_score():
    four = PAIR[:1].repeat(4, 1)
    same = torch.full((4,), 0.8)
    for expected, score in ((None, 0.8), (2, 0.8), (4, 0.8), (8, 0.4)):
        got = cluster_boxes(four, same, 0.5, expected=expected)
        assert got.boxes.tolist() == PAIR[:1].tolist()
        assert got.scores.tolist() == pytest.approx([score])
    one_model = cluster_boxes(four, same, 0.5, expected=4, sources=torch.zeros(4, dtype=torch.int64))
    assert one_model.scores.tolist() == pytest.approx([0.8 / (1 + 3 / 4)])


def test_boxes_alone_stay_bit_for_bit():
    boxes, score = crowd(30, 3, 400), scores(30, 3) / 3
    alone = iou_matrix(boxes, boxes).fill_diagonal_(0).amax(1) <= 0.3
    got = cluster_boxes(boxes[alone], score[alone], 0.3)
    assert alone.sum() > 20
    assert torch.equal(got.boxes, boxes[alone][got.best])
    assert torch.equal(got.scores, score[alone][got.best])
    assert torch.equal(got.best, nms(boxes[alone], score[alone], 0.3))


def test_classes_do_not_join():
    got = cluster_boxes(PAIR, SCORES, 0.5, classes=torch.tensor([3, 1]))
    assert torch.equal(got.boxes, PAIR)
    assert torch.equal(got.scores, SCORES)


def test_empty_boxes_and_scores_of_nothing_stay_as_they_are():
    boxes = torch.tensor([[1.0, 1, 1, 1, 5, 5], [0, 0, 0, 4, 4, 4]])
    got = cluster_boxes(boxes, torch.tensor([0.9, 0.0]), 0.5)
    assert torch.equal(got.boxes, boxes)
    assert got.scores.tolist() == pytest.approx([0.9, 0.0])


def test_no_boxes_and_other_dtypes():
    none = cluster_boxes(torch.empty(0, 6), torch.empty(0), 0.5, expected=2)
    assert none.boxes.shape == (0, 6)
    assert none.members == ()
    assert none.best.shape == (0,)
    half = cluster_boxes(PAIR.half(), SCORES.half(), 0.5)
    assert half.boxes.dtype == half.scores.dtype == torch.float16
    assert cluster_boxes(PAIR.int(), SCORES, 0.5).boxes.dtype == torch.float32


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"2 boxes need one score \(and class\) each, got \(3,\)"):
        cluster_boxes(PAIR, SCORES, 0.5, weights=torch.ones(3))
