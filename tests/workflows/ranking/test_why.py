from __future__ import annotations

from medseg.workflows.ranking.measures import Measures
from medseg.workflows.ranking.order import Ranked
from medseg.workflows.ranking.why import reasons

FOUND = Measures(0.5, 0.1, 0.1, 3.0)
NOTHING = Measures(0.5, 0.1, 0.1, 0.0)


def test_the_words():
    places = [
        Ranked("a", 0.9),
        Ranked("b", 0.8, 2.0, "a"),
        Ranked("c", 0.5, 1.0, "b"),
        Ranked("d", 0.2, 0.99, "a"),
        Ranked("e", 0.4, 0.29, "c"),
        Ranked("f", 0.3, 0.0, "a"),
    ]
    measured = {place.name: FOUND for place in places} | {"c": NOTHING}
    assert reasons(places, measured) == [
        "the most doubt of all",
        "more doubt than most, unlike those before",
        "as much doubt as most, unlike those before, nothing found",
        "less doubt than most, resembles a",
        "as much doubt as most, much like c",
        "less doubt than most, as good as a copy of a",
    ]


def test_no_doubt_stands_out_where_all_are_equal():
    places = [Ranked("a", 0.0), Ranked("b", 0.0, 0.5, "a"), Ranked("c", 0.0, 0.5, "a")]
    assert reasons(places, dict.fromkeys("abc", FOUND))[1:] == ["as much doubt as most, resembles a"] * 2


def test_one_and_none():
    assert reasons([Ranked("a", 0.3)], {"a": NOTHING}) == ["the most doubt of all, nothing found"]
    assert reasons([], {}) == []
