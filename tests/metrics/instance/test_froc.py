import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.metrics.contingency import contingency
from medseg.metrics.instance import RATES, Hits, centre_hits, froc_curve, instance_overlaps, iou_hits, scored_case
from tests.metrics.instance.oracles import blocks, luna

PLACE = st.tuples(*[st.integers(0, 4)] * 3)
MARKS = st.lists(st.tuples(PLACE, st.integers(1, 5).map(lambda n: n / 5)), max_size=6)
NODULES = st.lists(st.tuples(PLACE, st.sampled_from([0.5, 1.0, 1.5, 2.5])), max_size=4)


def hits(scores, n_ref, *pairs):
    return Hits(np.array(scores, float), n_ref, np.array(pairs, np.int64).reshape(-1, 2))


def test_the_example_of_the_module_docstring():
    """Lesion A hit at .9 and .8, B missed, a false positive at .7; in the other scan C hit at .6."""
    curve = froc_curve([hits([0.9, 0.8, 0.7], 2, (0, 0), (1, 0)), hits([0.6], 1, (0, 0))])
    assert curve.thresholds.tolist() == [np.inf, 0.9, 0.7, 0.6]
    assert curve.false_positives.tolist() == [0, 0, 1 / 2, 1 / 2]
    assert curve.sensitivity.tolist() == [0, 1 / 3, 1 / 3, 2 / 3]
    assert [curve.at(rate) for rate in RATES] == pytest.approx([1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3, 2 / 3, 2 / 3])
    assert curve.cpm == pytest.approx((2 / 3 + 5 * 2 / 3) / 7)


def test_an_instance_that_hits_two_lesions_finds_both():
    curve = froc_curve([hits([0.5], 2, (0, 0), (0, 1))])
    assert (curve.sensitivity.tolist(), curve.false_positives.tolist()) == ([0, 1], [0, 0])


def test_both_rules_on_one_pair_of_maps():
    """A prediction within the lesion but far smaller, and one of good IoU whose centre lies too far out."""
    pred, ref = blocks((4, 5), (10, 18)), blocks((0, 10), (10, 14))
    case = scored_case(instance_overlaps(contingency(pred, ref)), {1: 0.9, 2: 0.8})
    assert iou_hits(case, 0.5).index.tolist() == [[1, 1]]
    assert iou_hits(case, 0.1).index.tolist() == [[0, 0], [1, 1]]
    centres = [np.array([[0, 0, 4.0], [0, 0, 13.5]]), np.array([[0, 0, 4.5], [0, 0, 11.5]])]
    assert centre_hits(case.scores, *centres, np.array([5.0, 2.0])).index.tolist() == [[0, 0]]


def test_a_centre_on_the_sphere_is_outside():
    at = np.array([[0.0, 3.0, 4.0]]), np.zeros((1, 3))
    assert len(centre_hits(np.ones(1), *at, np.array([5.0])).index) == 0
    assert len(centre_hits(np.ones(1), *at, np.array([5.001])).index) == 1


@given(st.lists(st.tuples(MARKS, NODULES), min_size=1, max_size=4))
def test_counted_as_luna16_counts(scans):
    cases = []
    for marks, nodules in scans:
        centres, scores = (np.array([m[n] for m in marks]) for n in (0, 1))
        places, radii = (np.array([m[n] for m in nodules]) for n in (0, 1))
        cases.append(centre_hits(scores, centres.reshape(-1, 3), places.reshape(-1, 3), radii))
    curve = froc_curve(cases)
    rate = np.linspace(0.125, 8, 200)
    expected = np.interp(rate, *luna(scans))
    if curve.n_ref:
        assert [curve.at(x) for x in rate] == pytest.approx(expected, abs=1e-12)
        assert curve.cpm == pytest.approx(np.interp(RATES, *luna(scans)).mean())
    assert (np.diff(curve.sensitivity) >= 0).all()
    assert (np.diff(curve.false_positives) >= 0).all()


def test_without_a_lesion_sensitivity_has_no_value():
    curve = froc_curve([hits([0.5, 0.1], 0)])
    assert curve.at(1) is None
    assert curve.cpm is None
    assert curve.false_positives.tolist() == [0, 1, 2]


def test_without_a_prediction_nothing_is_found():
    assert froc_curve([hits([], 3)]).cpm == 0


def test_no_scan_is_refused():
    with pytest.raises(ValueError, match="got no scan"):
        froc_curve([])
