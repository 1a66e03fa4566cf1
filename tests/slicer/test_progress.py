from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from MedSegLib.progress import Progress, advance
from rich.console import Console

from medseg.workflows import reporter as told
from medseg.workflows.outcome import CaseReport


def test_the_lines_that_medseg_writes(monkeypatch):
    """The oracle is medseg's own reporter, off a terminal."""
    now = iter(range(0, 10_000, 40))
    monkeypatch.setattr(told.time, "monotonic", lambda: float(next(now)))
    text = io.StringIO()
    reporter = told.ConsoleReporter(Console(file=text, width=10_000))
    with reporter:
        reporter.plan("1 case | liver 1.0 | cpu | windows of 40x56x40")
        reporter.case("Müller: 3 of 4 [x]", 1, 1)
        for done in (1, 12, 48):
            reporter.windows(done, 48)
        reporter.done(CaseReport("Müller: 3 of 4 [x]", "done", folder=Path("out"), seconds=1.4))
    fractions, progress = [], Progress()
    for line in text.getvalue().splitlines():
        progress = advance(progress, line)
        fractions.append(progress.fraction)
    assert fractions == [0.0, 12 / 48, 1.0, 1.0]
    assert "done in 1.4 s" in progress.text


def test_what_is_left_is_told():
    found = advance(Progress(), "[2/4] a: 10 of 40 windows, about 3 min left")
    assert found == Progress((1 + 0.25) / 4, "10 of 40 windows, about 3 min left")
    found = advance(Progress(), "[1/1] a: 10 of 40 windows x 16 samples, about 3 min left")
    assert found == Progress(0.25, "10 of 40 windows x 16 samples, about 3 min left")


@pytest.mark.parametrize(
    "line", ["", "     a note: 3 of 4 windows", " case  structure  volume (mL)", "error MS-D104: no"]
)
def test_other_lines_change_nothing(line):
    now = Progress(0.25, "so far")
    assert advance(now, line) is now


@given(
    st.lists(st.one_of(st.text(), st.from_regex(r"\[\d{1,3}/\d{1,3}\] .*: \d{1,4} of \d{1,4} windows, about 3 s left")))
)
def test_a_fraction_stays_one(lines):
    now = Progress()
    for line in lines:
        now = advance(now, line)
        assert now.fraction is None or 0 <= now.fraction <= 1
