import numpy as np
import pytest
import torch
from monai.metrics import PanopticQualityMetric

from medseg.metrics.contingency import contingency
from medseg.metrics.instance import MatchCounts, PanopticQuality, panoptic_quality
from tests.metrics.instance.oracles import blocks


def test_things_and_stuff_worked_by_hand():
    """Stuff 5 lies in two pieces in the prediction and one in the reference: one segment of 8 against one of 10."""
    pred = blocks((0, 4), (4, 8), (10, 14), (20, 24))
    ref = blocks((0, 10), (10, 15), (18, 24))
    found = panoptic_quality(
        contingency(pred, ref), pred_classes={1: 5, 2: 5, 3: 1, 4: 2}, ref_classes={1: 5, 2: 1, 3: 1}, stuff=(5,)
    )
    assert found.classes == {1: MatchCounts(1, 0, 1, 4 / 5), 2: MatchCounts(0, 1, 0), 5: MatchCounts(1, 0, 0, 8 / 10)}
    assert found.pq == pytest.approx((0.8 / 1.5 + 0 + 0.8) / 3)
    assert found.sq == pytest.approx((0.8 + 0 + 0.8) / 3)
    assert found.rq == pytest.approx((1 / 1.5 + 0 + 1) / 3)
    assert found.pq_things == pytest.approx((0.8 / 1.5 + 0) / 2)
    assert found.pq_stuff == pytest.approx(0.8)


def test_the_same_place_in_another_class_is_no_match():
    table = contingency(blocks((0, 4)), blocks((0, 4)))
    found = panoptic_quality(table, pred_classes={1: 1}, ref_classes={1: 2})
    assert found.classes == {1: MatchCounts(fp=1), 2: MatchCounts(fn=1)}
    assert found.pq == 0


@pytest.mark.parametrize("seed", range(4))
def test_monai_has_the_same_of_several_classes_pooled_over_cases(seed):
    rng = np.random.default_rng(seed)
    metric = PanopticQualityMetric(num_classes=3, metric_name=("pq", "sq", "rq"), reduction="sum_batch")
    pooled = PanopticQuality({})
    for _ in range(2):
        ref = np.kron(rng.integers(0, 13, (3, 4, 4)), np.ones((3, 3, 3), int))
        pred = np.where(rng.random(ref.shape) < 0.15, rng.integers(0, 13, ref.shape), ref)
        pred_classes, ref_classes = ({n: 1 + (n + (n in odd)) % 3 for n in range(1, 13)} for odd in ({4, 9}, {5}))
        given = [
            torch.tensor(np.stack([labels, np.vectorize({0: 0, **classes}.get)(labels)])[None])
            for labels, classes in ((pred, pred_classes), (ref, ref_classes))
        ]
        metric(*given)
        table = contingency(pred, ref)
        pooled = pooled + panoptic_quality(table, pred_classes=pred_classes, ref_classes=ref_classes)
    for name, theirs in zip(("pq", "sq", "rq"), metric.aggregate(), strict=True):
        ours = [getattr(counts, name) for counts in pooled.classes.values()]
        assert ours == pytest.approx(theirs.tolist(), abs=2e-6)
        assert getattr(pooled, name) == pytest.approx(float(theirs.mean()), abs=2e-6)


def test_no_segment_anywhere():
    found = panoptic_quality(contingency(blocks(), blocks()), pred_classes={}, ref_classes={}, stuff=(3,))
    assert (found.pq, found.pq_things, found.pq_stuff) == (1.0, None, None)


def test_a_segment_without_class_is_refused():
    with pytest.raises(ValueError, match="every segment has a class, got none for 2 of pred"):
        panoptic_quality(contingency(blocks((0, 1), (2, 3)), blocks()), pred_classes={1: 1}, ref_classes={})


def test_cases_that_disagree_on_what_is_stuff_are_not_pooled():
    with pytest.raises(ValueError, match="agree on what is stuff"):
        PanopticQuality({}, frozenset({1})) + PanopticQuality({})
