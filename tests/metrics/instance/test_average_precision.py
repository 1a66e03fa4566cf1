import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from monai.apps.detection.metrics.coco import COCOMetric
from monai.apps.detection.metrics.matching import matching_batch
from monai.data.box_utils import box_iou
from sklearn.metrics import average_precision_score

from medseg.metrics.contingency import contingency
from medseg.metrics.instance import (
    COCO_IOU,
    MEDICAL_IOU,
    ScoredCase,
    box_overlaps,
    instance_overlaps,
    mean_average_precision,
    precision_recall,
    scored_case,
)
from tests.metrics.instance.oracles import blocks

MAPS = npst.arrays(np.int16, (2, 2, 6), elements=st.sampled_from([0, 1, 2, 3, 9]))


def case(pred, ref, scores):
    return scored_case(instance_overlaps(contingency(pred, ref)), scores)


def test_worked_by_hand():
    """By falling score: right, wrong, right; three in the reference. Recall 1/3, 1/3, 2/3; precision 1, 1/2, 2/3."""
    one = case(blocks((0, 4), (5, 9), (10, 14)), blocks((0, 4), (10, 13), (20, 24)), {1: 0.9, 2: 0.8, 3: 0.7})
    curve = precision_recall([one], 0.5)
    assert curve.precision.tolist() == [1, 1 / 2, 2 / 3]
    assert curve.recall.tolist() == [1 / 3, 1 / 3, 2 / 3]
    assert curve.scores.tolist() == [0.9, 0.8, 0.7]
    assert curve.ap == pytest.approx((34 * 1 + 33 * 2 / 3) / 101)  # recalls 0 to .33, then .34 to .66
    assert curve.area == pytest.approx(1 / 3 + 1 / 3 * 2 / 3)
    assert precision_recall([one], 0.8).ap == pytest.approx(34 / 101)


def test_a_second_detection_of_one_instance_is_wrong_and_the_surer_one_is_right():
    one = case(blocks((0, 4), (4, 8)), blocks((0, 8)), {1: 0.3, 2: 0.6})
    assert precision_recall([one], 0.5).precision.tolist() == [1, 1 / 2]


def test_the_thresholds_are_the_nearest_floats():
    assert MEDICAL_IOU == (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
    assert COCO_IOU == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def test_a_recall_of_exactly_a_hundredth_is_reached():
    """7 of 10 found: 0.7 in 32 bits is less than 0.7 in 64, so that MONAI loses one of 101 points."""
    ref = blocks(*((2 * n, 2 * n + 1) for n in range(10)))
    pred = np.where(ref <= 7, ref, 0)
    assert precision_recall([case(pred, ref, dict.fromkeys(range(1, 8), 1.0))], 0.5).ap == 71 / 101


def random_boxes(rng, n):
    low = rng.uniform(0, 20, (n, 3))
    return np.concatenate([low, low + rng.uniform(3, 9, (n, 3))], 1)


@pytest.mark.parametrize("n_ref", [7, 13, 33])
@pytest.mark.parametrize("seed", range(3))
def test_monais_coco_metric_has_the_same_of_boxes(seed, n_ref):
    """No limit on detections: 120 in a case. `n_ref` shares no factor with 100 (see above), and no IoU of these boxes
    meets a threshold, which MONAI's 32 bits would round.
    """
    rng, cases = np.random.default_rng(seed), []
    for n in (n_ref - n_ref // 3, 0, n_ref // 3):
        ref = random_boxes(rng, n)
        near = np.repeat(ref, 60 // n if n else 1, axis=0)
        pred = np.concatenate([near + rng.uniform(-1.4, 1.4, near.shape), random_boxes(rng, 60)])
        cases.append((pred, rng.integers(0, 40, len(pred)) / 40, ref))
    metric = COCOMetric(
        classes=["thing"], iou_list=(0.1, 0.5, 0.75), iou_range=(0.1, 0.5, 0.05), max_detection=(10**6,), verbose=False
    )
    preds, scores, refs = zip(*cases, strict=True)
    matched = matching_batch(
        box_iou,
        metric.iou_thresholds,
        preds,
        [np.zeros(len(p), int) for p in preds],
        scores,
        refs,
        [np.zeros(len(r), int) for r in refs],
        max_detections=10**6,
    )
    theirs = metric(matched)[0]
    ours = [ScoredCase(box_overlaps(p, r), s) for p, s, r in cases]
    for iou in (0.1, 0.5, 0.75):
        assert precision_recall(ours, iou).ap == pytest.approx(theirs[f"AP_IoU_{iou:.2f}_MaxDet_1000000"], abs=1e-6)
    expected = theirs["mAP_IoU_0.10_0.50_0.05_MaxDet_1000000"]
    assert 0.1 < expected < 0.9
    assert mean_average_precision(ours, MEDICAL_IOU) == pytest.approx(expected, abs=1e-6)


@given(MAPS, MAPS, st.permutations([0.1, 0.4, 0.6, 0.9]))
def test_the_raw_area_is_scikit_learns(pred, ref, scores):
    o = instance_overlaps(contingency(pred, ref))
    curve = precision_recall([scored_case(o, np.array(scores[: o.n_pred]))], 0.3)
    hit = np.diff(curve.hits, prepend=0)
    if curve.status == "ok" and hit.any():
        expected = average_precision_score(hit, curve.scores) * hit.sum() / curve.n_ref  # it knows no misses
        assert curve.area == pytest.approx(expected)


@given(MAPS, MAPS)
def test_scores_count_by_their_order_alone(pred, ref):
    o = instance_overlaps(contingency(pred, ref))
    scores = np.array([0.2, 0.9, 0.1, 0.5])[: o.n_pred]
    one, other = (precision_recall([scored_case(o, s)], 0.3) for s in (scores, np.exp(5 * scores) - 100))
    assert (one.ap, one.area) == (other.ap, other.area)


@given(MAPS)
def test_everything_found_and_nothing_else(labels):
    o = instance_overlaps(contingency(labels, labels))
    assert mean_average_precision([scored_case(o, np.zeros(o.n_pred))], COCO_IOU) == 1


@pytest.mark.parametrize(
    ("pred", "ref", "ap"), [(blocks(), blocks(), 1), (blocks((0, 2)), blocks(), 0), (blocks(), blocks((0, 2)), 0)]
)
def test_maps_without_instances(pred, ref, ap):
    curve = precision_recall([case(pred, ref, {int(v): 0.5 for v in np.unique(pred) if v})], 0.5)
    assert (curve.ap, curve.area) == (ap, ap)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({1: 0.5}, r"missing for \[2\], given for \[\] not in it"),
        ({1: 0.5, 2: 0.5, 7: 0.1}, r"missing for \[\], given for \[7\] not in it"),
        ({1: 0.5, 2: float("nan")}, "2 instances have as many finite scores"),
        (np.zeros(3), "2 instances have as many finite scores"),
    ],
)
def test_scores_that_do_not_fit_are_refused(scores, message):
    with pytest.raises(ValueError, match=message):
        case(blocks((0, 2), (4, 6)), blocks((0, 2)), scores)
