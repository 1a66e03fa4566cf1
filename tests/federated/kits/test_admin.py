"""States of jobs become errors with codes; what the server wrote of a job's rounds becomes lines. Real jobs: test_loopback.py."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from medseg.cli.federate import app
from medseg.errors import InputError, OutputError, UsageError
from medseg.federated.kits import admin
from medseg.federated.kits.kit import read_kit

LOG = """\
2026-11-26 15:33:35,970 - runner_process - INFO - Runner_process started.
2026-11-26 15:34:01,001 - MedsegController - WARNING - [identity=server, run=3e0e, wf=medseg] - round 1: site b is missing: it sent nothing (grace)
2026-11-26 15:34:01,002 - MedsegController - INFO - [identity=server, run=3e0e, wf=medseg] - round 1 of 2: 2 of 3 sites (grace)
2026-11-26 15:34:01,003 - MedsegController - INFO - [identity=server, run=3e0e, wf=medseg] - Initializing controller
2026-11-26 15:34:09,004 - MedsegController - ERROR - [identity=server, run=3e0e, wf=medseg] - the training failed: MS-J018 round 2 has 1
  -> bring the sites back
Traceback (most recent call last):
"""


def speaking(*statuses: str, log: str = LOG):
    """A session of a job that has these states, one after the other."""
    left = list(statuses)
    return SimpleNamespace(
        get_job_meta=lambda job: {"job_id": job, "name": "liver", "status": left.pop(0) if len(left) > 1 else left[0]},
        get_job_logs=lambda job, target: {"logs": {target: log}},
    )


def job(status: str, *told: str) -> admin.Job:
    return admin.Job("17", "liver", status, told=told)


def test_what_the_server_said_of_the_rounds_is_told_and_nothing_else():
    assert admin.said(speaking("RUNNING"), "17") == [
        "round 1: site b is missing: it sent nothing (grace)",
        "round 1 of 2: 2 of 3 sites (grace)",
        "the training failed: MS-J018 round 2 has 1",
    ]


def test_a_job_is_followed_to_its_end_and_each_thing_told_once(monkeypatch):
    monkeypatch.setattr(admin, "_EVERY_S", 0.0)
    told = []
    found = admin.follow(speaking("SUBMITTED", "RUNNING", "RUNNING", "FINISHED:COMPLETED"), "17", told.append)
    assert found.status == "FINISHED:COMPLETED"
    assert [line for line in told if line.startswith("17")] == [
        "17 liver: SUBMITTED", "17 liver: RUNNING", "17 liver: FINISHED:COMPLETED",
    ]  # fmt: skip
    assert len([line for line in told if line.startswith("round 1 of 2")]) == 1


@pytest.mark.parametrize("status", ["SUBMITTED", "DISPATCHED", "RUNNING", "FINISHED:COMPLETED"])
def test_what_goes_on_or_completed_passes(status):
    admin.require_completed(job(status))


@pytest.mark.parametrize(
    "status", ["EXECUTION_EXCEPTION", "ABNORMAL", "CAN_NOT_SCHEDULE", "FAILED_TO_RUN", "ABANDONED", "SOMETHING_NEW"]
)
def test_every_other_end_is_a_failure(status):
    with pytest.raises(InputError) as caught:
        admin.require_completed(job(f"FINISHED:{status}"))
    assert (caught.value.code, caught.value.exit_code) == ("MS-J062", 3)


def test_a_failure_names_who_refused_and_why_it_failed():
    found = job("FINISHED:FAILED_TO_RUN", "server: OK", "site-2: BYOC not permitted")
    with pytest.raises(InputError, match=r"site-2: BYOC not permitted; the training failed: MS-J018"):
        admin.require_completed(found, ["round 1 of 2: 3 of 3 sites", "the training failed: MS-J018 x"])


def test_a_stopped_job_is_told_apart():
    with pytest.raises(InputError) as caught:
        admin.require_completed(job("FINISHED:ABORTED"))
    assert (caught.value.code, caught.value.exit_code) == ("MS-J063", 3)


def test_where_no_server_answers_it_says_so(kits, tmp_path):
    shutil.copytree(kits / "admins" / "lead@example.org", tmp_path / "kit")
    with pytest.raises(InputError) as caught, admin.session(read_kit(tmp_path / "kit")):
        pytest.fail("something answered")
    assert caught.value.code == "MS-J064"


@pytest.mark.parametrize("words", [["learning_rate"], ["learning_rate=[1, 2"]])
def test_a_change_that_is_none_is_refused(kits, small_recipe, words):
    given = ["submit", str(kits / "admins/lead@example.org"), str(small_recipe), "-n", "x", "--set", *words]
    done = CliRunner().invoke(app, given)
    assert isinstance(done.exception, UsageError)
    assert done.exception.code == "MS-J070"


def test_a_sites_kit_submits_nothing(kits, small_recipe):
    done = CliRunner().invoke(app, ["submit", str(kits / "sites/site-1"), str(small_recipe), "-n", "x"])
    assert isinstance(done.exception, InputError)
    assert done.exception.code == "MS-J054"


def left_by(*names: str):
    """A session whose server has kept these files of a job."""

    def download(job, destination):
        from pathlib import Path

        for name in names:
            path = Path(destination, job, "workspace", "medseg", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name, encoding="utf-8")
        Path(destination, job).mkdir(exist_ok=True)
        return str(Path(destination, job))

    return SimpleNamespace(download_job_result=download)


def test_the_model_is_fetched_as_a_bundle_with_its_table(tmp_path):
    found = admin.fetch_model(left_by("global/configs/metadata.json", "rounds.jsonl"), "17", tmp_path / "out")
    assert found == tmp_path / "out" / "global"
    assert (found / "configs" / "metadata.json").is_file()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["global", "rounds.jsonl"]


def test_a_job_that_left_no_model_is_told(tmp_path):
    with pytest.raises(InputError) as caught:
        admin.fetch_model(left_by(), "17", tmp_path / "out")
    assert caught.value.code == "MS-J072"


def test_a_model_that_is_there_is_not_replaced(tmp_path):
    (tmp_path / "global").mkdir()
    with pytest.raises(OutputError) as caught:
        admin.fetch_model(left_by("global/x", "rounds.jsonl"), "17", tmp_path)
    assert caught.value.code == "MS-J071"
