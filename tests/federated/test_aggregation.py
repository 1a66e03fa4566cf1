"""The server's arithmetic against numpy, written from the papers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg.federated.aggregation import control_step, mean_change, server_step, shares
from medseg.federated.algorithm import ServerOptimiser


def test_shares_by_hand():
    assert shares({"a": 80, "b": 10, "c": 10}, 0.5) == {"a": 0.5, "b": 0.25, "c": 0.25}
    assert shares({"a": 3, "b": 1}) == {"a": 0.75, "b": 0.25}
    assert shares({"a": 80, "b": 10, "c": 10}, 0.2) == {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}
    assert shares({"a": 7}, 0.5) == {"a": 1.0}
    found = shares({"a": 60, "b": 30, "c": 5, "d": 5}, 0.35)  # what a loses would lift b above the cap, too
    assert found == pytest.approx({"a": 0.35, "b": 0.35, "c": 0.15, "d": 0.15})


@given(st.lists(st.integers(1, 500), min_size=1, max_size=8), st.floats(0.05, 1.0))
def test_shares_add_up_keep_the_cap_and_the_order(numbers, cap):
    cases = {f"site{n}": number for n, number in enumerate(numbers)}
    found = shares(cases, cap)
    assert sum(found.values()) == pytest.approx(1.0)
    assert max(found.values()) <= max(cap, 1 / len(cases)) + 1e-9
    order = sorted(cases, key=cases.__getitem__)
    assert all(found[a] <= found[b] + 1e-12 for a, b in itertools.pairwise(order))


def drawn(seed, names=("a", "b")):
    rng = np.random.default_rng(seed)
    return {name: torch.from_numpy(rng.normal(size=(3, 2)).astype(np.float32)) for name in names}


def test_the_mean_is_numpys():
    changes, weights = [drawn(n) for n in range(3)], [0.5, 0.3, 0.2]
    found = mean_change(changes, weights)
    for name in ("a", "b"):
        wanted = np.average([one[name].numpy().astype(np.float64) for one in changes], axis=0, weights=weights)
        np.testing.assert_allclose(found[name].numpy(), wanted, rtol=1e-6)
        assert found[name].dtype == torch.float32


def by_hand(kind, state, changes, lr=0.1, beta1=0.9, beta2=0.99, eps=1e-3):
    """Reddi et al., algorithm 2, in numpy."""
    m, v, w = 0.0, np.full_like(state, eps**2), state.copy()
    for d in changes:
        if kind == "momentum":
            m = beta1 * m + d
            w = w + lr * m
            continue
        m = beta1 * m + (1 - beta1) * d
        v = beta2 * v + (1 - beta2) * d**2 if kind == "adam" else v - (1 - beta2) * d**2 * np.sign(v - d**2)
        w = w + lr * m / (np.sqrt(v) + eps)
    return w


@pytest.mark.parametrize("kind", ["momentum", "adam", "yogi"])
def test_the_servers_optimisers_are_the_papers(kind):
    state, changes = drawn(0), [drawn(n) for n in range(1, 5)]
    optimiser = ServerOptimiser(kind, learning_rate=0.1)
    now, moments = dict(state), {}
    for change in changes:
        now, moments = server_step(now, change, optimiser, moments, buffers=["b"])
    wanted = by_hand(kind, state["a"].numpy().astype(np.float64), [c["a"].numpy().astype(np.float64) for c in changes])
    np.testing.assert_allclose(now["a"].numpy(), wanted, rtol=2e-4, atol=1e-6)
    plain = state["b"] + sum(change["b"] for change in changes)  # running statistics are averaged
    np.testing.assert_allclose(now["b"].numpy(), plain.numpy(), rtol=1e-5)
    assert all(name.endswith("/a") for name in moments)


def test_the_plain_average_keeps_the_sum():
    state, change = drawn(0), drawn(1)
    now, moments = server_step(state, change, ServerOptimiser(), {}, buffers=["b"])
    assert moments == {}
    assert all(torch.equal(now[name], state[name] + change[name]) for name in state)
    half, _ = server_step(state, change, ServerOptimiser(learning_rate=0.5), {}, buffers=["b"])
    assert torch.allclose(half["a"], state["a"] + 0.5 * change["a"])
    assert torch.equal(half["b"], now["b"])


def test_scaffolds_server_variate_counts_sites_that_were_missing():
    control, changes = drawn(0), [drawn(1), drawn(2)]
    found = control_step(control, changes, sites=4)
    wanted = control["a"].numpy() + (changes[0]["a"].numpy() + changes[1]["a"].numpy()) / 4
    np.testing.assert_allclose(found["a"].numpy(), wanted, rtol=1e-6)
    assert all(torch.equal(value, control[name]) for name, value in control_step(control, [], 4).items())
