"""`medseg rank`: every word of the command line reaches the workflow, and its report becomes table and exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medseg.cli.app import run
from medseg.readers.options import ReadOptions
from medseg.workflows import rank
from medseg.workflows.outcome import CaseReport, Failure
from medseg.workflows.ranking.measures import Measures
from medseg.workflows.ranking.table import RankedCase

FAILED = Failure("broken", "MS-N101", "broken.nii.gz", "the file ends early", "copy it again")
MEASURES = Measures(0.5, 0.25, 0.125, 3.0)


def report(count: int):
    cases = tuple(RankedCase(1 + n, f"case {n}", 0.5, MEASURES, *((0.75, "case 0") if n else ())) for n in range(count))
    told = tuple(CaseReport(case.case, "done", Path("out") / case.case) for case in cases)
    return rank.RankReport(Path("out"), cases, (*told, CaseReport("broken", "failed", failure=FAILED)))


@pytest.fixture
def asked(monkeypatch):
    """What `workflows.rank.rank` was called with; it answers with 25 good cases and a failed one."""
    calls = []

    def answer(*args, **kwargs):
        calls.append((args, kwargs))
        return report(25)

    monkeypatch.setattr(rank, "rank", answer)
    return calls


def test_plain_use_takes_the_defaults(asked):
    assert run(["rank", "pool", "-o", "out", "-b", "hippocampus"]) == 6
    ((args, kwargs),) = asked
    assert args == (Path("pool"), "hippocampus", Path("out"))
    assert kwargs.pop("progress") is not None
    assert kwargs == {
        "uncertainty": None, "by": "entropy", "first": None, "seed": 0, "device": "auto", "threads": None,
        "options": ReadOptions(), "outside_domain": False, "resume": False, "overwrite": False, "case_id": "auto", "case_key": None,
    }  # fmt: skip


def test_every_option_reaches_the_workflow(asked):
    words = ["--uncertainty", "tta", "--by", "disagreement", "--first", "9", "--seed", "3", "--device", "cuda:1"]
    words += ["--threads", "2", "--series", "4", "--assume-orientation", "LPS", "--allow-gaps", "--nonfinite", "fill:0"]
    words += ["--strict", "--max-voxels", "1000", "--outside-domain", "--resume", "--overwrite"]
    words += ["--case-id", "name", "--case-key", "k.json"]
    run(["rank", "pool", "-o", "out", "-b", "hippocampus", *words])
    ((_, kwargs),) = asked
    kwargs.pop("progress")
    assert kwargs == {
        "uncertainty": "tta", "by": "disagreement", "first": 9, "seed": 3, "device": "cuda:1", "threads": 2,
        "options": ReadOptions(
            series="4", assume_orientation="LPS", allow_gaps=True, nonfinite="fill:0", strict=True, max_voxels=1000
        ),
        "outside_domain": True, "resume": True, "overwrite": True, "case_id": "name", "case_key": Path("k.json"),
    }  # fmt: skip


def test_the_table(asked, capsys):
    run(["rank", "pool", "-o", "out", "-b", "hippocampus"])
    said = capsys.readouterr()
    assert said.out == ""
    rows = [line.split() for line in said.err.splitlines() if " case " in line]
    assert rows[1][:4] == ["1", "case", "0", "0.500"]
    assert rows[2][:5] == ["2", "case", "1", "0.500", "0.75"]
    assert len(rows) == 1 + 20
    assert f"5 more in {Path('out') / 'rank.csv'}" in said.err
    assert f"25 of 26 cases looked at: open {Path('out') / 'rank.html'}" in said.err


def test_json_is_the_report(asked, capsys):
    assert run(["rank", "pool", "-o", "out", "-b", "hippocampus", "--json"]) == 6
    said = json.loads(capsys.readouterr().out)
    assert said["exit_code"] == 6
    assert len(said["ranked"]) == 25
    assert said["ranked"][0]["entropy"] == 0.5
    assert [row["mend"] for row in said["failed"]] == ["copy it again"]


def test_the_real_workflow_refuses_an_unknown_bundle_before_it_reads(tmp_path, capsys):
    assert run(["rank", str(tmp_path), "-o", str(tmp_path / "out"), "-b", "hipocampus_mri_segmentation"]) == 4
    assert "type -b hippocampus_mri_segmentation" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_unknown_criterion(tmp_path, capsys):
    assert run(["rank", str(tmp_path), "-o", str(tmp_path / "out"), "-b", "toy", "--by", "size"]) == 2
    assert "use one of entropy, mutual-information, disagreement" in capsys.readouterr().err


def test_an_interrupted_run_says_how_to_go_on(monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(rank, "rank", interrupted)
    assert run(["rank", "pool", "-o", "out", "-b", "toy"]) == 130
    assert "--resume" in capsys.readouterr().err
