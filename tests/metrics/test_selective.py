from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.metrics.selective import risk_coverage

RISKS = st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.0, 0.1, 0.5, np.inf])), min_size=1, max_size=6)


@given(RISKS)
def test_ties_are_the_mean_over_all_their_orders(cases):
    risk, uncertainty = map(np.array, zip(*cases, strict=True))
    kept = np.arange(1, len(risk) + 1)
    orders = [list(o) for o in permutations(range(len(risk)))]
    ascending = [o for o in orders if list(uncertainty[o]) == sorted(uncertainty)]
    curves = [np.cumsum(risk[o]) / kept for o in ascending]
    got = risk_coverage(risk, uncertainty)
    np.testing.assert_allclose(got.risk, np.mean(curves, axis=0), atol=1e-12)
    best = min((np.cumsum(risk[o]) / kept for o in orders), key=lambda curve: curve.mean())
    np.testing.assert_allclose(got.oracle, best, atol=1e-12)
    assert got.e_aurc >= -1e-12


def test_closed_forms():
    """Errors at rate e = 0.1: the oracle's AURC is e + (1 - e) ln (1 - e), that of chance e."""
    risk = np.zeros(200_000)
    risk[:20_000] = 1
    perfect, constant = risk_coverage(risk, risk), risk_coverage(risk, np.ones(len(risk)))
    assert perfect.aurc == pytest.approx(0.1 + 0.9 * np.log(0.9), abs=1e-5)
    assert perfect.aurc == pytest.approx(0.0051755, abs=1e-5)
    assert (perfect.e_aurc, perfect.ause) == (0, 0)
    assert constant.aurc == pytest.approx(0.1)
    assert constant.ause == pytest.approx(0.94824, abs=1e-4)
    random = risk_coverage(risk, np.random.default_rng(0).random(len(risk)))
    assert random.aurc == pytest.approx(0.1, abs=0.003)


def test_by_hand():
    got = risk_coverage([0.5, 0.1, 0.3], [2.0, 1.0, 3.0])
    assert got.coverage.tolist() == [1 / 3, 2 / 3, 1]
    assert got.risk == pytest.approx([0.1, 0.3, 0.3])
    assert got.oracle == pytest.approx([0.1, 0.2, 0.3])
    assert (got.aurc, got.e_aurc, got.mean_risk) == pytest.approx((0.7 / 3, 0.1 / 3, 0.3))
    assert got.ause == pytest.approx(1 / 9)


@given(RISKS)
def test_only_the_ranks_matter(cases):
    risk, uncertainty = map(np.array, zip(*cases, strict=True))
    np.testing.assert_array_equal(risk_coverage(risk, uncertainty).risk, risk_coverage(risk, np.exp(uncertainty)).risk)
    turned = risk_coverage(risk[::-1], uncertainty[::-1])
    np.testing.assert_allclose(turned.risk, risk_coverage(risk, uncertainty).risk)


def test_without_risk_there_is_nothing_to_sparsify():
    got = risk_coverage(np.zeros(3), np.arange(3))
    assert got.aurc == 0
    assert np.isnan(got.ause)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"got \(2,\) and \(3,\)"):
        risk_coverage([0, 1], [0, 1, 2])
    with pytest.raises(ValueError, match="one or more cases"):
        risk_coverage([], [])
    with pytest.raises(ValueError, match="a failed case has the greatest risk, not NaN"):
        risk_coverage([0, np.nan], [0, 1])
    with pytest.raises(ValueError, match="a risk is finite"):
        risk_coverage([0, np.inf], [0, 1])
