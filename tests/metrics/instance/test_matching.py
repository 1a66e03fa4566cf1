import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from monai.metrics.panoptic_quality import compute_panoptic_quality

from medseg.metrics.contingency import contingency
from medseg.metrics.instance import MatchCounts, by_size, instance_overlaps, match_greedy, match_optimal
from tests.metrics.instance.oracles import best_matching, blocks, coco_matches, ious, stardist

MAPS = npst.arrays(np.int16, (2, 2, 6), elements=st.sampled_from([0, 1, 2, 3, 9]))
SCORES = ("precision", "recall", "f1", "accuracy", "sq", "mean_true_score", "pq")


def overlaps(pred, ref):
    return instance_overlaps(contingency(pred, ref))


def blurred(seed, shape=(6, 12, 12)):
    """Two maps of cubes, the one a shifted and partly renumbered copy of the other."""
    rng = np.random.default_rng(seed)
    ref = np.kron(rng.integers(0, 30, [n // 3 for n in shape]), np.ones((3, 3, 3), int)).astype(np.int32)
    pred = np.where(rng.random(shape) < 0.1, rng.integers(0, 30, shape), np.roll(ref, rng.integers(0, 2, 3), (0, 1, 2)))
    return pred.astype(np.int32), ref


def test_worked_by_hand():
    o = overlaps(blocks((0, 4), (6, 10), (20, 22)), blocks((0, 5), (6, 9), (12, 15)))
    counts = match_optimal(o, 0.5, strict=True).counts
    assert counts == MatchCounts(2, 1, 1, 4 / 5 + 3 / 4)
    assert (counts.precision, counts.recall, counts.f1, counts.accuracy) == (2 / 3, 2 / 3, 2 / 3, 2 / 4)
    assert counts.sq == pytest.approx(0.775)
    assert counts.pq == pytest.approx(0.775 * 2 / 3)
    assert counts.pq == pytest.approx(counts.sq * counts.rq)
    assert counts.mean_true_score == pytest.approx(1.55 / 3)


def test_an_iou_of_exactly_the_threshold_counts_unless_strict():
    o = overlaps(blocks((0, 2), (2, 4)), blocks((0, 4)))
    assert match_optimal(o, 0.5, strict=False).counts.tp == 1
    assert match_optimal(o, 0.5, strict=True).counts.tp == 0


def test_two_pairs_beat_one_of_greater_iou():
    o = overlaps(blocks((0, 2), (2, 7)), blocks((0, 4), (4, 7)))  # IoU 2/4, 2/7, 3/5
    assert match_optimal(o, 0.3, strict=False).counts == MatchCounts(2, 0, 0, 0.5 + 0.6)
    o = overlaps(blocks((2, 8), (8, 9)), blocks((0, 2), (2, 9)))  # one reference is free but touches nothing
    assert match_optimal(o, 0.1, strict=False).counts == MatchCounts(1, 1, 1, 6 / 7)
    o = overlaps(blocks((0, 3), (3, 10)), blocks((0, 1), (1, 8)))  # IoU 1/3, 2/8, 5/9: (1, 1), (2, 2)
    assert match_greedy(o, np.array([2.0, 1.0]), 0.1).counts.tp == 2


@given(MAPS, MAPS, st.sampled_from([0.0, 0.1, 0.2, 1 / 3, 0.5, 0.6, 1.0]), st.booleans())
def test_no_other_matching_is_better(pred, ref, iou, strict):
    found = match_optimal(overlaps(pred, ref), iou, strict=strict)
    counts = found.counts
    tp, total = best_matching(ious(pred, ref), (lambda x: x > iou) if strict else (lambda x: x >= iou))
    assert counts.tp == tp
    assert counts.iou_sum == pytest.approx(total)
    assert len(set(found.preds.tolist())) == len(set(found.refs.tolist())) == tp
    assert (counts.tp + counts.fp, counts.tp + counts.fn) == (found.overlaps.n_pred, found.overlaps.n_ref)


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.75, 0.95])
@pytest.mark.parametrize("seed", range(4))
def test_stardist_has_the_same_scores(seed, threshold):
    pred, ref = blurred(seed)
    expected = stardist(ious(pred, ref), threshold)
    counts = match_optimal(overlaps(pred, ref), threshold, strict=False).counts
    assert {name: getattr(counts, name) for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize("threshold", [0.05, 0.2, 0.4])
@pytest.mark.parametrize("seed", range(4))
def test_below_half_stardist_has_as_many_pairs_and_never_a_greater_iou(seed, threshold):
    pred, ref = blurred(seed)  # its tie-breaker also counts pairs that do not reach the threshold
    expected = stardist(ious(pred, ref), threshold)
    counts = match_optimal(overlaps(pred, ref), threshold, strict=False).counts
    assert (counts.tp, counts.fp, counts.fn) == (expected["tp"], expected["fp"], expected["fn"])
    assert counts.sq >= expected["sq"] - 1e-12


@pytest.mark.parametrize("seed", range(6))
def test_monai_has_the_same_panoptic_quality(seed):
    pred, ref = blurred(seed)
    theirs = compute_panoptic_quality(torch.tensor(pred), torch.tensor(ref), output_confusion_matrix=True).tolist()
    counts = match_optimal(overlaps(pred, ref), 0.5, strict=True).counts
    assert [counts.tp, counts.fp, counts.fn, counts.iou_sum] == pytest.approx(theirs)
    for name in ("pq", "sq", "rq"):
        monai = float(compute_panoptic_quality(torch.tensor(pred), torch.tensor(ref), metric_name=name))
        assert getattr(counts, name) == pytest.approx(monai, abs=2e-6)


@given(MAPS, MAPS, st.sampled_from([0.1, 1 / 3, 0.5, 0.7]), st.lists(st.integers(0, 2), min_size=4, max_size=4))
def test_greedy_matching_as_pycocotools_loops(pred, ref, iou, scores):
    o = overlaps(pred, ref)
    table, scores = ious(pred, ref), np.array(scores[: o.n_pred], float)
    matched = np.zeros(o.n_pred, bool)
    matched[match_greedy(o, scores, iou).preds] = True
    np.testing.assert_array_equal(matched, coco_matches(table, scores, iou))


@given(MAPS, MAPS)
def test_prediction_and_reference_change_places(pred, ref):
    one, other = (match_optimal(overlaps(*maps), 0.3, strict=False).counts for maps in ((pred, ref), (ref, pred)))
    assert (one.tp, one.fp, one.fn) == (other.tp, other.fn, other.fp)
    assert one.pq == pytest.approx(other.pq)


@given(MAPS)
def test_a_map_matches_itself(labels):
    counts = match_optimal(overlaps(labels, labels), 0.9, strict=True).counts
    assert all(getattr(counts, name) == 1 for name in SCORES)


@pytest.mark.parametrize(
    ("counts", "score", "status"),
    [
        (MatchCounts(), 1.0, "both_empty"),
        (MatchCounts(fp=3), 0.0, "ref_empty"),
        (MatchCounts(fn=3), 0.0, "pred_empty"),
        (MatchCounts(fp=1, fn=1), 0.0, "ok"),
    ],
)
def test_nothing_matched(counts, score, status):
    assert [getattr(counts, name) for name in SCORES] == [score] * len(SCORES)
    assert counts.status == status


def test_cases_are_pooled_by_their_counts():
    assert MatchCounts(1, 2, 3, 0.5) + MatchCounts(4, 0, 1, 3.5) == MatchCounts(5, 2, 4, 4.0)


@pytest.mark.parametrize("iou", [-0.1, 1.1, float("nan")])
def test_thresholds_outside_0_to_1_are_refused(iou):
    o = overlaps(blocks((0, 2)), blocks((0, 2)))
    with pytest.raises(ValueError, match=r"an IoU threshold lies in \[0, 1\], got"):
        match_optimal(o, iou, strict=True)
    with pytest.raises(ValueError, match=r"an IoU threshold lies in \[0, 1\], got"):
        match_greedy(o, np.ones(1), iou)


def test_sizes_apart_worked_by_hand():
    # of 2 mm3 a voxel: matched 4/5 (ref 10 mm3), superfluous 4 mm3, missed 6 mm3
    matching = match_optimal(overlaps(blocks((0, 4), (20, 22)), blocks((0, 5), (12, 15))), 0.5, strict=False)
    found = by_size(matching, {"small": (0, 8), "large": (8, np.inf)}, voxel_mm3=2.0)
    assert found == {"small": MatchCounts(0, 1, 1, 0.0), "large": MatchCounts(1, 0, 0, 0.8)}


@given(MAPS, MAPS)
def test_adjoining_buckets_add_up(pred, ref):
    matching = match_optimal(overlaps(pred, ref), 0.3, strict=False)
    buckets = by_size(matching, {"a": (0, 3), "b": (3, 6), "c": (6, np.inf)}, voxel_mm3=1.0).values()
    whole = matching.counts
    assert sum(b.tp for b in buckets) == whole.tp
    assert sum(b.fn for b in buckets) == whole.fn
    assert sum(b.fp for b in buckets) == whole.fp
    assert sum(b.iou_sum for b in buckets) == pytest.approx(whole.iou_sum)


def test_a_bucket_without_sizes_is_refused():
    matching = match_optimal(overlaps(blocks((0, 2)), blocks((0, 2))), 0.5, strict=False)
    with pytest.raises(ValueError, match="from a volume to a larger one in mm3, got 'none'"):
        by_size(matching, {"none": (5, 5)}, voxel_mm3=1.0)
