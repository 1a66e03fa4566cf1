"""`medseg verify` and `medseg rerun`: words reach the workflow, its report becomes a table, JSON and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medseg.cli.app import run
from medseg.workflows import rerun, verify
from medseg.workflows.rerun import RerunCase, RerunReport
from medseg.workflows.verify import Finding, VerifyReport

FINDING = Finding("MS-V103", "a/preview.png", "this file was changed", "take it from a copy")


@pytest.fixture
def asked(monkeypatch):
    """What the workflows were called with; `asked.answer` is what they say."""

    class Asked(list):
        answer: object = None

    calls = Asked()

    def told(*args, **kwargs):
        calls.append((args, kwargs))
        return calls.answer

    monkeypatch.setattr(verify, "verify", told)
    monkeypatch.setattr(rerun, "rerun", told)
    return calls


def test_verify_of_an_untouched_folder(asked, capsys):
    asked.answer = VerifyReport(Path("out"), 12, (), ("the input was not looked at",))
    assert run(["verify", "out"]) == 0
    assert asked == [((Path("out"),), {"bundle": None, "source": None})]
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "the input was not looked at\n12 files as recorded\n"


def test_verify_of_a_changed_folder(asked, capsys):
    asked.answer = VerifyReport(Path("out"), 1, (FINDING,), ())
    assert run(["verify", "out", "-b", "small", "--input", "scans", "--json"]) == 8
    assert asked == [((Path("out"),), {"bundle": "small", "source": Path("scans")})]
    out, err = capsys.readouterr()
    assert json.loads(out)["findings"] == [
        {"code": "MS-V103", "file": "a/preview.png", "what": "this file was changed", "mend": "take it from a copy"}
    ]
    assert "MS-V103 a/preview.png this file was changed take it from a copy" in " ".join(err.split())
    assert err.endswith("1 file as recorded, 1 finding\n")


def test_a_folder_without_a_record(tmp_path, capsys):
    assert run(["verify", str(tmp_path)]) == 8
    assert run(["rerun", str(tmp_path)]) == 8
    assert capsys.readouterr().err.count("error MS-V101: there is no record here") == 2


def test_rerun_passes_its_words(asked):
    asked.answer = RerunReport(())
    words = ["-o", "again", "--input", "scans", "-b", "small", "--device", "cpu", "--case-key", "key.json"]
    assert run(["rerun", "out/a/record.json", *words]) == 0
    ((args, kwargs),) = asked
    assert kwargs.pop("progress") is not None
    assert args == (Path("out/a/record.json"), Path("again"))
    assert kwargs == {"source": Path("scans"), "bundle": "small", "device": "cpu", "case_key": Path("key.json")}


def test_rerun_tells_what_is_equal_and_what_is_not(asked, capsys):
    cases = (RerunCase("a", ("x", "y")), RerunCase("b", ("x",), ("y",)), RerunCase("c", failure="MS-M310 no memory"))
    asked.answer = RerunReport(cases[:2], ("processor: then A, now B",))
    assert run(["rerun", "out"]) == 8
    err = " ".join(capsys.readouterr().err.split())
    assert "a equal 2 files b differs y processor: then A, now B" in err
    asked.answer = RerunReport(cases, failed=6)
    assert run(["rerun", "out", "--json"]) == 6
    assert json.loads(capsys.readouterr().out)["cases"][2]["failure"] == "MS-M310 no memory"
