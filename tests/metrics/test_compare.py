from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata, wilcoxon

from medseg.metrics.compare import holm, paired_comparison, signed_difference

PAIRS = st.lists(st.tuples(*[st.one_of(st.integers(-3, 3).map(float), st.just(np.inf))] * 2), min_size=1, max_size=9)


def exact_p(difference):
    """Wilcoxon's test by all 2^n ways to give the ranks a sign."""
    difference = difference[difference != 0]
    if not len(difference):
        return 1.0
    ranks = rankdata(np.abs(difference))
    sums = np.array([np.dot(signs, ranks) for signs in product([0, 1], repeat=len(ranks))])
    seen = ranks[difference > 0].sum()
    return min(1.0, 2 * min((sums <= seen + 1e-9).mean(), (sums >= seen - 1e-9).mean()))


@given(PAIRS)
def test_equals_exact_enumeration_with_ties_and_infinities(pairs):
    a, b = map(np.array, zip(*pairs, strict=True))
    difference = np.array([0 if x == y else x - y for x, y in pairs])
    got = paired_comparison(a, b, draws=50)
    assert got.p_value == pytest.approx(exact_p(difference))
    assert (got.n, got.n_subjects, got.n_differing) == (len(a), len(a), (difference != 0).sum())
    assert paired_comparison(b, a, draws=50).p_value == pytest.approx(got.p_value)


def test_equals_scipy_on_many_cases():
    random = np.random.default_rng(0)
    a = random.random(60)
    b = a + random.normal(0.05, 0.1, 60)
    got = paired_comparison(a, b)
    assert got.p_value == pytest.approx(wilcoxon(a, b).pvalue)
    assert got.mean.estimate == pytest.approx((a - b).mean())
    assert got.median.estimate == pytest.approx(np.median(a - b))
    assert got.mean.low < got.mean.estimate < got.mean.high < 0


def test_equal_models_do_not_differ():
    got = paired_comparison([0.5, np.inf, 1], [0.5, np.inf, 1])
    assert (got.p_value, got.mean.estimate, got.median.high, got.n_differing) == (1, 0, 0, 0)


def test_an_infinite_difference_outranks_all_others():
    a, b = np.array([np.inf, 1, 2, 3, 4]), np.array([0.0, 1.1, 2.2, 3.3, 4.4])
    got = paired_comparison(a, b)
    assert got.p_value == paired_comparison(np.where(np.isinf(a), 1e6, a), b).p_value
    assert got.mean.estimate == np.inf
    assert got.median.estimate == pytest.approx(-0.2)


def test_subjects_are_tested_and_not_scans():
    random = np.random.default_rng(1)
    effect = random.normal(0.05, 0.1, 12)
    a = np.repeat(effect, 5) + random.normal(0, 0.001, 60)
    subjects = np.repeat(list("abcdefghijkl"), 5)
    got = paired_comparison(a, np.zeros(60), groups=subjects)
    means = a.reshape(12, 5).mean(axis=1)
    assert got.p_value == pytest.approx(wilcoxon(means).pvalue)
    assert (got.n, got.n_subjects) == (60, 12)
    assert got.mean.estimate == pytest.approx(means.mean())
    assert paired_comparison(a, np.zeros(60)).p_value < got.p_value


def test_a_subject_with_one_infinite_scan_counts_with_its_median():
    got = paired_comparison([np.inf, 1, 1, 2, 3], [0, 0, 0, 0, 0], groups=[7, 7, 7, 8, 9])
    assert got.mean.estimate == pytest.approx(2)
    two = paired_comparison([np.inf, 0], [0, np.inf], groups=[1, 1])
    assert (two.mean.estimate, two.p_value) == (0, 1)


def test_differences_of_infinities():
    got = signed_difference([np.inf, np.inf, 1, -np.inf, np.inf], [np.inf, 1, np.inf, -np.inf, -np.inf])
    assert got.tolist() == [0, np.inf, -np.inf, 0, np.inf]


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == pytest.approx([1, 1])
    assert holm([0.02, 0.02, 0.02]) == pytest.approx([0.06] * 3)
    assert holm([]).tolist() == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.5))
def test_holm_rejects_what_the_step_down_rejects(p_values, alpha):
    rejected, order = set(), np.argsort(p_values, kind="stable")
    for step, n in enumerate(order):
        if p_values[n] * (len(p_values) - step) > alpha:
            break
        rejected.add(int(n))
    adjusted = holm(p_values)
    assert set(np.flatnonzero(adjusted <= alpha)) == rejected
    assert (adjusted >= p_values).all()
    assert (adjusted <= 1).all()


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"got \(2,\) and \(1,\)"):
        paired_comparison([1, 2], [1])
    with pytest.raises(ValueError, match="one or more cases"):
        paired_comparison([], [])
    with pytest.raises(ValueError, match="got NaN"):
        paired_comparison([1, np.nan], [1, 2])
    with pytest.raises(ValueError, match=r"each of the 2 pairs has a group, got groups of shape \(3,\)"):
        paired_comparison([1, 2], [1, 2], groups=[1, 2, 3])
    for wrong in ([0.5, 1.1], [-0.1], [np.nan]):
        with pytest.raises(ValueError, match=r"p values lie in \[0, 1\]"):
            holm(wrong)
