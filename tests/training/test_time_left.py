"""How long a run still takes."""

from __future__ import annotations

import pytest

from medseg.training.time_left import TimeLeft, in_words


def test_at_a_steady_pace_it_is_exact_and_early_it_says_nothing():
    one = TimeLeft()
    assert one.seconds() is None
    for step in range(101):
        one.tell(step / 200, 1000.0 + 3.0 * step)
        if step > 2:
            assert one.seconds() == pytest.approx(3.0 * (200 - step))


def test_a_change_of_pace_is_seen():
    one = TimeLeft()
    now = 0.0
    for step in range(400):
        now += 10.0 if step < 100 else 1.0  # the first cases are read, then they are kept
        one.tell(step / 1000, now)
    assert one.seconds() < 2 * 600


def test_many_steps_are_thinned_out():
    one = TimeLeft()
    for step in range(20_001):
        one.tell(step / 40_000, float(step))
    assert len(one._told) <= 2001
    assert one.seconds() == pytest.approx(20_000, rel=1e-3)


def test_a_run_that_stands_still_has_no_end():
    one = TimeLeft()
    for step in range(5):
        one.tell(0.5, float(step))
    assert one.seconds() is None


@pytest.mark.parametrize(
    ("seconds", "words"), [(40, "40 s"), (61, "1 min"), (3599, "1 h 0 min"), (12_000, "3 h 20 min")]
)
def test_words(seconds, words):
    assert in_words(seconds) == words
