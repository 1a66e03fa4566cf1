"""When a round is over, second by second."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.federated.exchange import Update
from medseg.federated.rounds import FAILED, MISSING, REFUSED, TESTED, USED, Answer, Round, over

SITES = ("a", "b", "c")
RULES = {"quorum": 2, "deadline_s": 100.0, "grace_s": 10.0, "pickup_s": 15.0}


def going(**answers) -> Round:
    """A round that began at 0, whose sites fetched the task at 1 but for those named 'not_taken'."""
    away = answers.pop("not_taken", ())
    found = Round(SITES, 0.0)
    for site in SITES:
        if site not in away:
            found.take(site, 1.0)
    for site, (outcome, at) in answers.items():
        update = Update({}, 1, 1) if outcome == USED else None
        assert found.answer(site, Answer(outcome, update), at)
    return found


@pytest.mark.parametrize(
    ("now", "at", "why"),
    [
        (going(), 99.0, None),
        (going(), 100.0, "deadline"),
        (going(a=(USED, 5), b=(USED, 6)), 7.0, None),
        (going(a=(USED, 5), b=(USED, 6)), 16.0, "grace"),
        (going(a=(USED, 5), b=(USED, 6), c=(USED, 7)), 7.0, "all answered"),
        (going(a=(USED, 5), b=(REFUSED, 6)), 90.0, None),  # c may still make the quorum
        (going(a=(FAILED, 5), b=(REFUSED, 6)), 7.0, "quorum out of reach"),
        (going(a=(USED, 5), b=(USED, 6), not_taken=["c"]), 14.0, None),
        (going(a=(USED, 5), b=(USED, 6), not_taken=["c"]), 15.0, "the others did not come"),
        (going(a=(USED, 5), b=(TESTED, 6), c=(USED, 8)), 8.0, "all answered"),
    ],
)
def test_by_hand(now, at, why):
    assert over(now, at, **RULES) == why


def test_sites_that_are_gone_are_not_waited_for():
    assert over(going(a=(USED, 5), b=(USED, 6)), 7.0, gone=["c"], **RULES) == "the others are gone"
    assert over(going(a=(USED, 5)), 7.0, gone=["b", "c"], **RULES) == "the others are gone"
    assert over(going(), 7.0, gone=["b", "c"], **RULES) == "quorum out of reach"
    assert over(going(), 7.0, gone=["b"], **RULES) is None


def test_without_a_quorum_all_are_waited_for():
    rules = RULES | {"quorum": 0}
    assert over(going(a=(TESTED, 5)), 50.0, **rules) is None
    assert over(going(a=(TESTED, 5), not_taken=["b", "c"]), 50.0, **rules) == "the others did not come"
    assert over(going(), 100.0, **rules) == "deadline"


def test_only_the_first_answer_of_a_site_that_was_asked_counts():
    now = going(a=(USED, 5))
    assert not now.answer("a", Answer(REFUSED), 6.0)
    assert not now.answer("stranger", Answer(USED), 6.0)
    assert [now.outcome(site) for site in SITES] == [USED, MISSING, MISSING]
    now.close()
    assert not now.answer("b", Answer(USED), 7.0)  # too late


@given(
    st.lists(st.tuples(st.sampled_from([USED, REFUSED, FAILED, TESTED]), st.floats(1, 99)), max_size=3),
    st.integers(0, 3),
    st.floats(0, 60),
)
def test_no_round_outlives_its_deadline_and_none_ends_before_it_must(answers, quorum, grace):
    now = going(**dict(zip(SITES, answers, strict=False)))
    rules = {"quorum": quorum, "deadline_s": 100.0, "grace_s": grace}
    assert over(now, 100.0, **rules) is not None
    sound = sum(one.outcome == USED for one in now.answers.values())
    if over(now, 99.9, **rules) == "quorum out of reach":
        assert sound + len(SITES) - len(now.answers) < quorum
    if over(now, 99.9, **rules) == "grace":
        assert sound >= quorum
