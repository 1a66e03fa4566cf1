"""How long, how often, how much in memory."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.training.plan.pace import LEAST_STEPS, STEPS, pace_of


def test_the_hippocampus_has_the_shipped_numbers():
    train, validation = np.tile([35.0, 50.0, 36.0], (160, 1)), np.tile([35.0, 50.0, 36.0], (40, 1))
    found = pace_of(train, validation, (40, 56, 40), 2, 1, 4e9)
    assert (found.epochs, found.val_interval, found.at_least, found.cache_rate) == (150, 10, 0, 1.0)


@pytest.mark.parametrize("cases", [1, 3, 30, 1000])
def test_a_few_cases_still_make_an_epoch(cases):
    found = pace_of(np.full((cases, 3), 50.0), np.full((1, 3), 50.0), (40, 40, 40), 2, 1, 4e9)
    seen = found.at_least or cases
    assert seen >= 2 * LEAST_STEPS or cases > 2 * LEAST_STEPS
    assert seen % cases == 0  # every case as often as the others
    assert found.epochs >= 50
    assert cases > 500 or found.epochs * (seen // 2) == pytest.approx(STEPS, rel=0.1)


def test_what_does_not_fit_is_read_again():
    found = pace_of(np.full((10, 3), 100.0), np.full((0, 3), 1.0), (40, 40, 40), 2, 1, 10 * 1e6 * 8 / 4)
    assert found.cache_rate == 0.25


def test_long_validations_come_rarely():
    often, rarely = (
        pace_of(np.full((20, 3), 100.0), np.full((n, 3), 300.0), (96, 96, 96), 2, 1, 1e9).val_interval for n in (1, 20)
    )
    assert often <= rarely == 50
