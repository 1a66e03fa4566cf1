"""Quantiles against numpy, and pooled ones against all numbers put together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.federated.stats.sketch import PROBS, pooled, rounded, sketch_of

numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)


@given(numbers)
def test_they_are_numpys_quantiles(values):
    found = sketch_of(values)
    assert found.n == len(values)
    assert np.allclose(found.values, np.quantile(values, PROBS), rtol=1e-3, atol=1e-9)
    assert found.median == rounded(np.quantile(values, 0.5))
    assert found.cases(5).tolist() == sorted(found.cases(5).tolist())


@given(st.lists(numbers, min_size=1, max_size=4))
def test_a_pool_lies_within_its_sites_and_counts_all(sites):
    found = pooled([sketch_of(one) for one in sites])
    assert found.n == sum(map(len, sites))
    everything = np.concatenate(sites)
    slack = 1e-3 * np.abs(everything).max() + 1e-9
    assert everything.min() - slack <= found.values[0] <= found.values[-1] <= everything.max() + slack


def test_sites_that_are_alike_pool_to_all_numbers_put_together():
    rng = np.random.default_rng(0)
    sites = [rng.normal(5, 2, n) for n in (400, 150, 50)]
    found = pooled([sketch_of(one) for one in sites])
    assert np.allclose(found.values, np.quantile(np.concatenate(sites), PROBS), atol=0.15)
    assert found.spread == pytest.approx(2, rel=0.15)


def test_the_example_of_the_docstring():
    found = pooled([sketch_of([1, 1, 1, 2, 3]), sketch_of([1.0] * 10), None])
    assert sketch_of([1, 1, 1, 2, 3]).values[2:5] == (1, 1, 2)
    assert (found.n, found.median) == (15, 1.0)


def test_nothing_of_nothing():
    assert sketch_of([]) is None
    assert sketch_of([float("nan"), float("inf")]) is None
    assert pooled([None, None]) is None
    assert pooled([]) is None
