from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap, norm

from medseg.metrics import bootstrap as module
from medseg.metrics.bootstrap import bootstrap_interval, median, percentile_interval

SCORES = st.lists(st.one_of(st.floats(-1, 1), st.sampled_from([0.5, np.inf])), min_size=1, max_size=12)


def all_draws(values, statistic, level):
    """Every one of the N^N equally likely draws."""
    found = np.sort([statistic(values[list(draw)]) for draw in product(range(len(values)), repeat=len(values))])
    return np.quantile(found, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")


@pytest.mark.parametrize("statistic", ["mean", "median"])
@pytest.mark.parametrize("values", [[0.1, 0.5, 0.6, 0.95], [0.2, 0.2, 0.9, np.inf, 0.3]])
def test_equals_exact_enumeration(statistic, values):
    values = np.array(values)
    got = bootstrap_interval(values, statistic=statistic, level=0.8, draws=40_000)
    exact = all_draws(values, {"mean": np.mean, "median": np.median}[statistic], 0.8)
    assert [got.low, got.high] == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_equals_scipy(statistic):
    values = np.random.default_rng(1).beta(8, 2, 40)
    got = bootstrap_interval(values, statistic=statistic, draws=20_000)
    want = bootstrap((values,), getattr(np, statistic), n_resamples=20_000, method="percentile", rng=2)
    assert [got.low, got.high] == pytest.approx(list(want.confidence_interval), abs=3e-3)
    assert got.estimate == pytest.approx(getattr(np, statistic)(values))


def test_the_mean_of_many_values_follows_the_normal_law():
    values = np.random.default_rng(0).normal(3, 2, 1000)
    got = bootstrap_interval(values, level=0.9)
    half = norm.ppf(0.95) * values.std() / np.sqrt(1000)
    assert [got.low, got.high] == pytest.approx([values.mean() - half, values.mean() + half], abs=0.01)
    assert (got.level, got.n, got.n_groups) == (0.9, 1000, 1000)


def test_all_scans_of_a_subject_come_along():
    """Two subjects, 3 scans of 0 and 1 scan of 1: the mean is 0, 1/4 or 1, with chances 1/4, 1/2, 1/4."""
    values, groups = [0, 0, 1, 0], ["a", "a", "b", "a"]
    seen = {level: bootstrap_interval(values, groups=groups, level=level, draws=20_000) for level in (0.9, 0.4)}
    assert (seen[0.9].low, seen[0.9].high, seen[0.4].low, seen[0.4].high) == (0, 1, 0.25, 0.25)
    assert (seen[0.9].estimate, seen[0.9].n, seen[0.9].n_groups) == (0.25, 4, 2)


def test_repeated_scans_do_not_feign_certainty():
    subjects = np.random.default_rng(0).random(20)
    once = bootstrap_interval(subjects)
    often = bootstrap_interval(np.repeat(subjects, 9), groups=np.repeat(np.arange(20), 9))
    naive = bootstrap_interval(np.repeat(subjects, 9))
    assert (often.low, often.high) == pytest.approx((once.low, once.high))
    assert naive.high - naive.low < 0.5 * (often.high - often.low)


def test_what_is_infinite_stays_so():
    values = [0.1, 0.2, 0.3, np.inf, 0.2]
    mean, middle = (bootstrap_interval(values, statistic=s) for s in ("mean", "median"))
    assert mean.estimate == mean.high == np.inf
    assert middle.estimate == 0.2
    assert middle.low == 0.1
    assert bootstrap_interval([np.inf] * 3, statistic="median").low == np.inf
    assert np.isnan(bootstrap_interval([-np.inf, np.inf]).estimate)


@given(SCORES)
def test_the_median_equals_numpy(values):
    with np.errstate(invalid="ignore"):
        want = np.median(values) if not np.isinf(values).all() else np.inf
    assert median(np.array(values)) == pytest.approx(want)
    got = bootstrap_interval(values, statistic="median", draws=200)
    assert got.estimate == pytest.approx(want)
    assert min(values) <= got.low <= got.high <= max(values)


@given(SCORES, st.sampled_from(["mean", "median"]))
def test_one_seed_gives_one_interval_however_much_memory(values, statistic):
    want = bootstrap_interval(values, statistic=statistic, draws=150, seed=3)
    whole = module._CELLS
    try:
        module._CELLS = 40
        got = bootstrap_interval(values, statistic=statistic, draws=150, seed=3)
    finally:
        module._CELLS = whole
    assert (got.low, got.high) == pytest.approx((want.low, want.high))


def test_a_statistic_without_a_value_in_some_draws():
    half = percentile_interval(lambda times: np.where(times[:, 0] > 0, 1.0, np.nan), 2, draws=100)
    assert (half.low, half.high) == (1, 1)
    none = percentile_interval(lambda times: np.full(len(times), np.nan), 2, draws=100)
    assert np.isnan(none.low)
    assert np.isnan(none.high)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"one or more values and no NaN, got \[\]"):
        bootstrap_interval([])
    with pytest.raises(ValueError, match="no NaN"):
        bootstrap_interval([1, np.nan])
    with pytest.raises(ValueError, match="'mean' or 'median', got 'mode'"):
        bootstrap_interval([1.0], statistic="mode")
    with pytest.raises(ValueError, match="level=1, draws=10000"):
        bootstrap_interval([1.0], level=1)
    with pytest.raises(ValueError, match="draws=0"):
        bootstrap_interval([1.0], draws=0)
    with pytest.raises(ValueError, match=r"each of the 2 values has a group, got groups of shape \(1,\)"):
        bootstrap_interval([1.0, 2.0], groups=["a"])
