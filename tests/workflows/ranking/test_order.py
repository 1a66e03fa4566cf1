"""The order in which to label: closed forms, brute force, and what must hold for any pool."""

from __future__ import annotations

from itertools import combinations
from math import isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.workflows.ranking.order import distances, standardised, teaching_order


def order(names, scores, features):
    return [place.name for place in teaching_order(names, scores, np.asarray(features, float))]


def plainly(names, scores, features):
    """The rule word by word, with the standardisation written out."""
    rows = sorted(zip(names, scores, np.asarray(features, float).tolist(), strict=True))
    columns = list(zip(*(row[2] for row in rows), strict=True))
    points = {row[0]: [] for row in rows}
    for column in columns:
        mean = sum(column) / len(column)
        spread = (sum((x - mean) ** 2 for x in column) / len(column)) ** 0.5
        for row, x in zip(rows, column, strict=True):
            points[row[0]].append((x - mean) / spread if spread > 1e-6 * max(map(abs, column)) else 0.0)
    score = {row[0]: row[1] for row in rows}

    def apart(a, b):
        return (sum((x - y) ** 2 for x, y in zip(points[a], points[b], strict=True)) / len(points[a])) ** 0.5

    done = []
    while len(done) < len(rows):
        left = [row[0] for row in rows if row[0] not in done]
        near = {n: min((apart(n, d) for d in done), default=1.0) for n in left}
        done.append(max(left, key=lambda n: (score[n] * near[n], near[n], score[n])))
    return done


def test_the_worked_example():
    places = teaching_order("abcd", [0.9, 0.8, 0.5, 0.2], np.array([[0.0], [0.0], [1.0], [4.0]]))
    assert [p.name for p in places] == ["a", "d", "c", "b"]
    unit = np.std([0.0, 0.0, 1.0, 4.0])
    assert isnan(places[0].distance)
    assert places[0].nearest == ""
    assert [p.distance for p in places[1:]] == pytest.approx([4 / unit, 1 / unit, 0.0])
    assert [p.nearest for p in places[1:]] == ["a", "a", "a"]


def test_ten_copies_of_the_most_doubtful_case_do_not_fill_the_first_ten():
    rng = np.random.default_rng(0)
    copies = [f"copy {n}" for n in range(10)]
    others = [f"other {n}" for n in range(12)]
    scores = [0.9] * 10 + [0.1 + 0.01 * n for n in range(12)]
    features = np.concatenate([np.tile(rng.normal(size=16), (10, 1)), rng.normal(size=(12, 16))])
    by_score = [name for _, name in sorted(zip(scores, [*copies, *others], strict=True), reverse=True)][:10]
    assert set(by_score) == set(copies), "by the score alone they would"
    found = order([*copies, *others], scores, features)
    assert found[0] == "copy 0"
    assert set(found[1:13]) == set(others)
    assert found[13:] == copies[1:], "the copies are last, in the order of their names"


def test_copies_with_a_little_noise_come_late_too():
    rng = np.random.default_rng(1)
    features = np.concatenate([1e-3 * rng.normal(size=(10, 16)), rng.normal(size=(12, 16))])
    scores = [0.9] * 10 + [0.2] * 12
    assert sum(name < 10 for name in map(int, order([f"{n:02}" for n in range(22)], scores, features)[:13])) == 1


def test_a_copy_comes_after_what_is_different_but_not_in_doubt():
    assert order("abcd", [0.9, 0.9, 0.0, 0.0], [[0.0], [0.0], [1.0], [2.0]]) == ["a", "d", "c", "b"]


def test_equal_features_leave_the_score():
    names = list("badc")
    assert order(names, [0.2, 0.4, 0.1, 0.4], np.full((4, 3), 7.7)) == ["a", "c", "b", "d"]
    assert order(names, [0.2, 0.4, 0.1, 0.4], np.empty((4, 0))) == ["a", "c", "b", "d"]


def test_no_doubt_anywhere_leaves_the_distance():
    assert order("abcd", [0.0] * 4, [[0.0], [1.0], [5.0], [2.0]]) == ["a", "c", "d", "b"]


def test_few():
    assert teaching_order([], [], np.empty((0, 3))) == []
    assert order(["only"], [0.3], [[1.0, 2.0]]) == ["only"]


pools = st.integers(1, 9).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 8).map(lambda x: x / 8), min_size=n, max_size=n),
        st.lists(st.lists(st.integers(-4, 4).map(float), min_size=2, max_size=2), min_size=n, max_size=n),
        st.permutations(range(n)),
    )
)


@given(pools)
def test_against_the_rule_word_by_word(pool):
    scores, features, _ = pool
    # Square roots of primes keep products apart that are not both 0, so that rounding decides nothing.
    scores = [max(s, 0.125) * p**0.5 for s, p in zip(scores, (2, 3, 5, 7, 11, 13, 17, 19, 23), strict=False)]
    names = [f"case {n}" for n in range(len(scores))]
    assert order(names, scores, features) == plainly(names, scores, features)


@given(pools)
def test_the_order_of_the_pool_changes_nothing(pool):
    scores, features, turn = pool
    names = [f"case {n}" for n in range(len(scores))]
    turned = teaching_order([names[n] for n in turn], [scores[n] for n in turn], np.array([features[n] for n in turn]))
    assert [repr(p) for p in turned] == [repr(p) for p in teaching_order(names, scores, np.array(features))]


@given(pools, st.sampled_from([0.25, 4.0, 1024.0]), st.sampled_from([0.5, 8.0]))
def test_units_change_nothing(pool, score_unit, feature_unit):
    scores, features, _ = pool
    names = [f"case {n}" for n in range(len(scores))]
    scaled = order(names, [s * score_unit for s in scores], np.array(features) * feature_unit)
    assert scaled == order(names, scores, features)


@given(pools)
def test_each_distance_is_to_the_nearest_before(pool):
    scores, features, _ = pool
    names = [f"case {n}" for n in range(len(scores))]
    points = dict(zip(names, standardised(np.array(features)), strict=True))
    places = teaching_order(names, scores, np.array(features))
    assert sorted(p.name for p in places) == names
    for rank, place in enumerate(places[1:], 1):
        before = [p.name for p in places[:rank]]
        apart = distances(np.array([points[n] for n in before]), points[place.name])
        assert place.distance == pytest.approx(apart.min())
        assert apart[before.index(place.nearest)] == pytest.approx(apart.min())


@given(pools)
def test_with_equal_scores_the_first_k_cover_the_pool_within_twice_the_best(pool):
    """Farthest-first traversal is a 2-approximation of the k-centre problem (Gonzalez 1985): against all subsets."""
    _, features, _ = pool
    names = [f"case {n}" for n in range(len(features))]
    points = standardised(np.array(features))
    apart = np.array([distances(points, point) for point in points])
    found = [names.index(name) for name in order(names, [1.0] * len(names), features)]
    for k in range(1, min(4, len(names)) + 1):
        best = min(apart[list(some)].min(axis=0).max() for some in combinations(range(len(names)), k))
        assert apart[found[:k]].min(axis=0).max() <= 2 * best + 1e-9


def test_standardised():
    features = np.array([[1.0, 5.0, 0.1], [3.0, 5.0, 0.1 + 1e-9], [5.0, 5.0, 0.1]])
    found = standardised(features)
    assert found[:, 0] == pytest.approx(np.array([-1, 0, 1]) * 1.5**0.5)
    assert not found[:, 1:].any(), "constant, and constant but for rounding"


@pytest.mark.parametrize(
    ("names", "scores", "features", "said"),
    [
        ("aa", [1, 1], np.zeros((2, 1)), "repeated: a"),
        ("ab", [1], np.zeros((2, 1)), "as many"),
        ("ab", [1, 1], np.zeros(2), "as many"),
        ("ab", [1, -1], np.zeros((2, 1)), "at least 0"),
        ("ab", [1, np.nan], np.zeros((2, 1)), "finite"),
        ("ab", [1, 1], np.full((2, 1), np.inf), "finite"),
    ],
)
def test_what_cannot_be_ranked(names, scores, features, said):
    with pytest.raises(ValueError, match=said):
        teaching_order(list(names), scores, features)
