"""`medseg view` in the terminal: what it prints, what it opens, and its exit codes."""

from __future__ import annotations

import pytest

from medseg.cli.app import run
from medseg.workflows import view


@pytest.fixture
def opened(monkeypatch):
    found = []
    monkeypatch.setattr(view, "open_result", found.append)
    monkeypatch.setenv("SLICER_EXECUTABLE", "/gone/Slicer")
    return found


@pytest.fixture
def out(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "out" / name).mkdir(parents=True)
        (tmp_path / "out" / name / "scene.mrml").write_text("x", encoding="utf-8")
        (tmp_path / "out" / name / "report.html").write_text("x", encoding="utf-8")
    return tmp_path / "out"


def test_it_is_listed_and_explains_itself(capsys):
    assert run(["--help"]) == 0
    assert "view " in capsys.readouterr().out
    assert run(["view", "--help"]) == 0
    assert "Usage: medseg view" in capsys.readouterr().out


def test_the_page_is_opened_and_the_reason_said(opened, out, capsys):
    assert run(["view", str(out), "b"]) == 0
    assert [what.path for what in opened] == [(out / "b" / "report.html").resolve()]
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert stderr.splitlines() == [
        "SLICER_EXECUTABLE names no file (/gone/Slicer); its page opens in the browser",
        f"opening {(out / 'b' / 'report.html').resolve()}",
    ]


def test_print_opens_nothing_and_prints_the_path_alone(opened, out, capsys):
    assert run(["view", str(out), "a", "--print"]) == 0
    assert capsys.readouterr().out == f"{(out / 'a' / 'report.html').resolve()}\n"
    assert opened == []


def test_slicer_is_preferred(opened, out, tmp_path, monkeypatch, capsys):
    (tmp_path / "Slicer").write_text("x", encoding="utf-8")
    monkeypatch.setenv("SLICER_EXECUTABLE", str(tmp_path / "Slicer"))
    assert run(["view", str(out), "a"]) == 0
    (what,) = opened
    assert (what.path, what.slicer) == ((out / "a" / "scene.mrml").resolve(), tmp_path / "Slicer")
    assert capsys.readouterr().err == f"opening {what.path} in 3D Slicer\n"


def test_several_cases_are_listed(opened, out, capsys):
    assert run(["view", str(out)]) == 3
    assert f"medseg view {out} b" in capsys.readouterr().err
    assert opened == []


def test_a_wrong_folder_is_wrong_usage(opened, tmp_path, capsys):
    assert run(["view", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error MS-U340: ")
