import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.metrics.bootstrap import bootstrap_interval
from medseg.metrics.group_gap import group_gap

SITES = ["north", "south", "north", "east", "south", "south"]
DICE = [0.9, 0.5, 0.8, 0.7, 0.6, 0.9]


def test_by_hand():
    got = group_gap(DICE, SITES, higher_is_better=True)
    assert list(got.groups) == ["east", "north", "south"]
    assert {name: (g.mean.n, g.median.estimate) for name, g in got.groups.items()} == {
        "east": (1, 0.7),
        "north": (2, pytest.approx(0.85)),
        "south": (3, 0.6),
    }
    assert (got.worst, got.best, got.statistic) == ("south", "north", "median")
    assert got.gap == pytest.approx(0.25)
    mean = group_gap(DICE, SITES, higher_is_better=True, statistic="mean")
    assert (mean.worst, mean.gap) == ("south", pytest.approx(0.85 - 2 / 3))
    assert got.groups["south"].mean == bootstrap_interval([0.5, 0.6, 0.9])


def test_of_a_distance_the_greatest_is_worst():
    got = group_gap([1.0, 2.0, np.inf, 4.0], ["f", "f", "m", "m"], higher_is_better=False)
    assert (got.worst, got.best, got.gap) == ("m", "f", np.inf)
    same = group_gap([np.inf, np.inf], ["f", "m"], higher_is_better=False)
    assert (same.worst, same.best, same.gap) == ("f", "f", 0)


def test_subjects_are_resampled():
    subjects = ["p", "p", "p", "q", "r", "s"]
    got = group_gap(DICE, ["x"] * 6, higher_is_better=True, subjects=subjects)
    assert got.groups["x"].mean == bootstrap_interval(DICE, groups=subjects)
    assert (got.groups["x"].mean.n, got.groups["x"].mean.n_groups) == (6, 4)
    assert (got.worst, got.gap) == ("x", 0)


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abc")), min_size=1, max_size=12))
def test_the_other_direction_swaps_the_ends(cases):
    values, groups = zip(*cases, strict=True)
    high, low = (group_gap(values, groups, higher_is_better=h, draws=20) for h in (True, False))
    assert high.gap == low.gap >= 0
    assert (high.worst, high.best) == (low.best, low.worst)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="got 2, 1, 2"):
        group_gap([1, 2], ["a"], higher_is_better=True)
    with pytest.raises(ValueError, match="got 2, 2, 1"):
        group_gap([1, 2], ["a", "b"], higher_is_better=True, subjects=[1])
    with pytest.raises(ValueError, match="one or more values"):
        group_gap([], [], higher_is_better=True)
    with pytest.raises(ValueError, match="no NaN"):
        group_gap([1, np.nan], ["a", "b"], higher_is_better=True)
