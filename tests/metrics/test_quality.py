import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from medseg.metrics.quality import _correlation, _ranks, quality_agreement

QUALITIES = st.lists(st.tuples(*[st.sampled_from([0.0, 0.2, 0.5, 0.7, 0.9, 1.0])] * 2), min_size=3, max_size=10)


@given(QUALITIES, st.integers(0, 99))
def test_equals_scipy_also_for_draws_with_repetition(cases, seed):
    predicted, true = map(np.array, zip(*cases, strict=True))
    drawn = np.random.default_rng(seed).integers(0, len(true), len(true))
    for chosen in (np.arange(len(true)), drawn):
        times = np.bincount(chosen, minlength=len(true))[None].astype(float)
        got = _correlation(_ranks(predicted, times), _ranks(true, times), times)[0]
        x, y = predicted[chosen], true[chosen]
        if len(set(x)) == 1 or len(set(y)) == 1:
            assert np.isnan(got)
        else:
            assert got == pytest.approx(spearmanr(x, y).statistic)


def test_agreement_of_forty_cases():
    random = np.random.default_rng(0)
    true = random.beta(8, 2, 40)
    predicted = true + random.normal(0.02, 0.05, 40)
    got = quality_agreement(predicted, true)
    assert got.spearman.estimate == pytest.approx(spearmanr(predicted, true).statistic)
    assert got.mae.estimate == pytest.approx(np.abs(predicted - true).mean())
    assert -1 <= got.spearman.low < got.spearman.estimate < got.spearman.high <= 1
    assert got.mae.low < got.mae.estimate < got.mae.high
    assert quality_agreement(predicted, true) == got
    assert quality_agreement(np.exp(predicted), true).spearman == got.spearman, "ranks alone matter"


def test_perfect_inverse_and_constant():
    true = np.linspace(0, 1, 9)
    perfect, inverse = quality_agreement(true, true, draws=500), quality_agreement(1 - true, true, draws=500)
    assert perfect.spearman.estimate == pytest.approx(1)
    assert perfect.spearman.low == pytest.approx(1)
    assert (perfect.mae.estimate, perfect.mae.high) == (0, 0)
    assert inverse.spearman.estimate == pytest.approx(-1)
    constant = quality_agreement(np.full(9, 0.5), true, draws=500)
    assert np.isnan([constant.spearman.estimate, constant.spearman.low]).all()


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"two finite qualities, got \[1.0\] and \[1.0, 2.0\]"):
        quality_agreement([1], [1, 2])
    with pytest.raises(ValueError, match="two finite qualities"):
        quality_agreement([1, np.nan], [1, 2])
    with pytest.raises(ValueError, match="one or more cases"):
        quality_agreement([], [])
