"""The line that a site shows: of the training that wrote last, and never a reason to stop."""

from __future__ import annotations

import json
import os

import pytest

from medseg.federated.kits.progress import FILE, latest


def write(work, run, when, **said):
    path = work / run / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"round": 2, "step": 12, "of": 60, "loss": 0.41234, **said}), encoding="utf-8")
    os.utime(path, (when, when))
    return path


def test_it_is_the_training_that_wrote_last(tmp_path):
    write(tmp_path, "new", 2000)
    write(tmp_path, "old", 1000, round=9)
    assert str(latest(tmp_path)) == "new, round 3, step 12 of 60, loss 0.412"


def test_a_loss_that_is_not_finite_is_left_out(tmp_path):
    write(tmp_path, "run", 1, loss=None)
    assert str(latest(tmp_path)) == "run, round 3, step 12 of 60"


def test_before_any_training_there_is_none(tmp_path):
    assert latest(tmp_path / "nowhere") is None
    assert latest(tmp_path) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"round": 1}', '{"round": "x", "step": 1, "of": 1, "loss": 1}'])
def test_a_file_that_is_no_progress_is_none(tmp_path, content):
    write(tmp_path, "run", 1).write_text(content, encoding="utf-8")
    assert latest(tmp_path) is None


def test_it_reads_the_file_that_the_executor_writes():
    from medseg.federated.executor import PROGRESS

    assert PROGRESS == FILE
