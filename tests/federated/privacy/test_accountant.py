"""Epsilon against the published closed form in 60 digits, Google's two general accountants, and the classical bound."""

from __future__ import annotations

import importlib.util
import math

import dp_accounting
import mpmath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import MissingExtraError
from medseg.federated.privacy.accountant import LEVEL, Spent, multiplier_for, spent


def delta_of(epsilon: float, sigma: float) -> mpmath.mpf:
    """Balle and Wang 2018, theorem 8: the exact delta of one Gaussian release, distance 1, in 60 digits."""
    with mpmath.workdps(60):
        e, s = mpmath.mpf(epsilon), mpmath.mpf(sigma)
        return mpmath.ncdf(1 / (2 * s) - e * s) - mpmath.exp(e) * mpmath.ncdf(-1 / (2 * s) - e * s)


@pytest.mark.parametrize("z", [1.0, 4.0, 10.0, 60.0])
@pytest.mark.parametrize("updates", [1, 7, 50])
@pytest.mark.parametrize("delta", [1e-5, 1e-8])
def test_epsilon_is_the_published_closed_form(z, updates, delta):
    found = spent([z] * updates, delta)
    sigma = z / 2 / math.sqrt(updates)  # two clipped updates differ by up to twice the norm
    assert found.updates == updates
    if found.epsilon == 0:
        assert delta_of(0, sigma) <= delta
    else:
        assert float(delta_of(found.epsilon, sigma) / mpmath.mpf(delta)) == pytest.approx(1, rel=1e-6)


def test_the_worked_example():
    assert spent([10] * 4, 1e-5).epsilon == pytest.approx(1.555, abs=5e-4)


def general(multipliers, accountant) -> float:
    for z in multipliers:
        accountant.compose(dp_accounting.GaussianDpEvent(z / 2))
    return accountant.get_epsilon(1e-5)


@pytest.mark.parametrize("multipliers", [[6.0] * 20, [4.0, 8.0, 16.0, 5.0]])
def test_googles_general_accountants_agree(multipliers):
    """The numerical one (privacy loss distributions) closely; the looser one (Rényi) from above, as it must."""
    exact = spent(multipliers, 1e-5).epsilon
    assert general(multipliers, dp_accounting.pld.PLDAccountant()) == pytest.approx(exact, rel=2e-3)
    loose = general(multipliers, dp_accounting.rdp.RdpAccountant())
    assert exact <= loose <= 1.2 * exact


def test_it_is_below_the_bound_of_the_textbook():
    """Dwork and Roth 2014, theorem A.1: sigma >= sqrt(2 ln(1.25 / delta)) / epsilon gives epsilon, for epsilon < 1."""
    for epsilon in (0.1, 0.5, 0.99):
        z = 2 * math.sqrt(2 * math.log(1.25 / 1e-5)) / epsilon
        assert 0.5 * epsilon < spent([z], 1e-5).epsilon < epsilon


@given(st.floats(0.05, 50), st.integers(1, 100))
def test_the_noise_for_a_wanted_epsilon_gives_it(epsilon, updates):
    z = multiplier_for(epsilon, 1e-5, updates)
    assert spent([z] * updates, 1e-5).epsilon == pytest.approx(epsilon, rel=1e-6, abs=1e-9)


@given(st.lists(st.floats(0.5, 100), min_size=1, max_size=20), st.floats(0.5, 100))
def test_every_further_update_costs_and_order_does_not(multipliers, more):
    before, after = spent(multipliers, 1e-5), spent([*multipliers, more], 1e-5)
    assert after.epsilon > before.epsilon or after.epsilon == 0
    assert spent(multipliers[::-1], 1e-5).epsilon == pytest.approx(before.epsilon, rel=1e-9)


def test_without_updates_nothing_and_without_noise_everything_is_given_away():
    assert spent([], 1e-5) == Spent(0.0, 1e-5, 0)
    assert spent([3.0, 0.0], 1e-5).epsilon == math.inf


def test_little_noise_gives_a_number_and_not_an_error():
    assert spent([1e-3] * 10, 1e-5).epsilon == pytest.approx(0.5 * 10 * 2000**2, rel=0.01)


def test_it_says_epsilon_delta_and_the_level():
    text = str(spent([10] * 4, 1e-5))
    assert "epsilon 1.555 at delta 1e-05 after 4 updates" in text
    assert LEVEL in text
    assert LEVEL.startswith("site ")


def test_a_missing_library_is_told(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    import medseg.federated.privacy.accountant as module

    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"MS-J101 [\s\S]*medseg\[federated\]"):
        spent([1.0], 1e-5)
