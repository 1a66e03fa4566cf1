"""`medseg predict`: every word of the command line reaches the workflow, and its report becomes the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medseg.cli.app import run
from medseg.readers.options import ReadOptions
from medseg.workflows import predict
from medseg.workflows.outcome import CaseReport, Failure, PredictReport

FAILED = Failure("b", "MS-N101", "b.nii.gz", "the file ends early", "copy it again")


@pytest.fixture
def asked(monkeypatch):
    """What `workflows.predict.predict` was called with; it answers with one good and one failed case."""
    calls = []

    def answer(*args, **kwargs):
        calls.append((args, kwargs))
        done = CaseReport("a", "done", Path("out/a"))
        return PredictReport(Path("out"), (done, CaseReport("b", "failed", failure=FAILED)))

    monkeypatch.setattr(predict, "predict", answer)
    return calls


def test_plain_use_takes_the_defaults(asked):
    assert run(["predict", "scans", "-o", "out", "-b", "hippocampus"]) == 6
    ((args, kwargs),) = asked
    assert args == (Path("scans"), "hippocampus", Path("out"))
    assert kwargs.pop("options") == ReadOptions()
    assert kwargs.pop("progress") is not None
    assert kwargs.pop("device") == "auto"
    assert kwargs.pop("engine") == "torch"
    assert [kwargs.pop(name) for name in ("threads", "uncertainty", "dicom")] == [None] * 3
    assert kwargs.pop("views") is True
    assert kwargs.pop("seed") == 0
    assert (kwargs.pop("case_id"), kwargs.pop("case_key")) == ("auto", None)
    assert set(kwargs.values()) == {False}


def test_every_option_reaches_the_workflow(asked):
    words = ["--device", "cuda:1", "--threads", "3", "--series", "4", "--assume-orientation", "LPS", "--allow-gaps"]
    words += ["--nonfinite", "fill:-1024", "--strict", "--outside-domain", "--flat", "--resume", "--dry-run"]
    words += ["--case-id", "pseudonym", "--case-key", "k.json", "--deidentify", "--dicom"]
    run(["predict", "scans", "-o", "out", "-b", "hippocampus", *words, "--deterministic"])
    ((_, kwargs),) = asked
    read = ReadOptions(series="4", assume_orientation="LPS", allow_gaps=True, nonfinite="fill:-1024", strict=True)
    assert kwargs["options"] == read
    assert (kwargs["device"], kwargs["threads"]) == ("cuda:1", 3)
    assert (kwargs["case_id"], kwargs["case_key"], kwargs["dicom"]) == ("pseudonym", Path("k.json"), "binary")
    assert kwargs["deidentify"] is True
    said = {
        name for name in ("outside_domain", "flat", "resume", "overwrite", "dry_run", "deterministic") if kwargs[name]
    }
    assert said == {"outside_domain", "flat", "resume", "dry_run", "deterministic"}


def test_json_is_the_report(asked, capsys):
    assert run(["predict", "scans", "-o", "out", "-b", "hippocampus", "--json"]) == 6
    report = json.loads(capsys.readouterr().out)
    assert report["exit_code"] == 6
    assert [row["name"] for row in report["cases"]] == ["a", "b"]
    assert report["cases"][1]["mend"] == "copy it again"


def test_the_real_workflow_refuses_an_unknown_bundle_before_it_reads(tmp_path, capsys):
    assert run(["predict", str(tmp_path), "-o", str(tmp_path / "out"), "-b", "hipocampus_mri_segmentation"]) == 4
    assert "type -b hippocampus_mri_segmentation" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_interrupted_run_says_how_to_go_on(monkeypatch, tmp_path, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("medseg.workflows.predict.predict", interrupted)
    assert run(["predict", "scans", "-o", str(tmp_path / "out"), "-b", "toy"]) == 130
    assert "--resume" in capsys.readouterr().err
    assert run(["predict", "scans", "-o", str(tmp_path / "out"), "-b", "toy", "--dry-run"]) == 130
    assert "--resume" not in capsys.readouterr().err
