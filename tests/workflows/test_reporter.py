"""What a run says where there is no terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from medseg.errors import ChoiceError
from medseg.workflows import reporter
from medseg.workflows.outcome import CaseReport, Failure
from medseg.workflows.reporter import ConsoleReporter, duration


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.71, "0.7 s"), (42.4, "42 s"), (99.4, "99 s"), (1112, "19 min"), (7500, "2 h 05 min"), (6000, "1 h 40 min")],
)
def test_durations_in_words(seconds, said):
    assert duration(seconds) == said


def test_a_long_case_is_heard_of_now_and_then_off_a_terminal(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(reporter.time, "monotonic", lambda: clock[0])
    screen = io.StringIO()
    told = ConsoleReporter(Console(file=screen, width=200))
    told.case("head", 1, 2)
    for done in range(1, 101):
        told.windows(done, 100)
        clock[0] += 1.0
    lines = screen.getvalue().splitlines()
    assert lines[0] == "[1/2] head: 31 of 100 windows, about 69 s left"
    assert len(lines) == 3
    told.case("tail", 2, 2)
    told.windows(1, 2)
    assert len(screen.getvalue().splitlines()) == 3


def test_candidates_stand_on_lines_of_their_own():
    screen = io.StringIO()
    failure = Failure.of(
        "a", ChoiceError("MS-D131", "two series", mend="pick one", candidates=("--series 1", "--series 2"))
    )
    ConsoleReporter(Console(file=screen, width=200)).done(CaseReport("a", "failed", failure=failure))
    assert screen.getvalue().splitlines()[1:3] == ["     --series 1", "     --series 2"]
