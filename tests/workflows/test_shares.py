"""Two processes of torchrun leave the folder that one leaves: each case done once, the tables whole."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from medseg.workflows.engine import engine_device
from medseg.workflows.predict import predict
from medseg.workflows.shares import is_first, own_device, several
from medseg.writers.nifti import write_nifti

if TYPE_CHECKING:
    from pathlib import Path


def shared(*words: str, folder: Path) -> subprocess.CompletedProcess:
    """`torchrun -m medseg predict WORDS` with two processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "medseg", "predict"]
    return subprocess.run(
        [sys.executable, *launcher, *words],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def files(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


@pytest.fixture
def five(scans, scan) -> Path:
    """a to e; b is no image."""
    for name in "de":
        write_nifti(scans / f"{name}.nii.gz", scan.array, scan.affine)
    (scans / "b.nii.gz").write_bytes(b"no image at all")
    return scans


@pytest.mark.slow
def test_two_processes_leave_what_one_leaves(five, toy_bundle, tmp_path):
    alone, both = tmp_path / "alone", tmp_path / "both"
    report = predict(five, toy_bundle, alone, device="cpu")
    assert report.exit_code == 6
    done = shared(str(five), "-o", str(both), "-b", str(toy_bundle), "--device", "cpu", "--json", folder=tmp_path)
    said = done.stdout + done.stderr
    for case in "acde":
        assert said.count(f"{case}: done in") == 1, said
    assert said.count("b: MS-F") == 1
    assert said.count("4 of 5 cases") == 1
    assert files(both) == files(alone)
    assert table(both / "summary.csv") == table(alone / "summary.csv")
    assert table(both / "failures.csv") == table(alone / "failures.csv")
    records = [json.loads((out / "record.json").read_text(encoding="utf-8")) for out in (alone, both)]
    assert records[0]["cases"] == records[1]["cases"]
    assert [record["state"] for record in records] == ["done", "done"]
    told = json.loads(done.stdout)
    assert told["exit_code"] == 6
    assert [case["name"] for case in told["cases"]] == list("abcde")

    refused = shared(str(five), "-o", str(both), "-b", str(toy_bundle), "--device", "cpu", folder=tmp_path)
    assert refused.stderr.count("MS-O303") == 1, refused.stderr

    (both / "d" / "segmentation.nii.gz").unlink()
    (five / "b.nii.gz").unlink()
    words = (str(five), "-o", str(both), "-b", str(toy_bundle), "--device", "cpu", "--resume")
    again = shared(*words, folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("done in") == 1
    assert again.stderr.count("d: done in") == 1
    assert again.stderr.count("finished before") == 3


def test_one_process_is_alone(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    assert not several()
    assert is_first()
    assert own_device("auto") == "auto"
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert not several(), "as a queue leaves it, without torchrun"


def test_of_several_each_knows_its_place(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    for rank, first in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        assert several()
        assert is_first() is first
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert own_device("auto") == own_device("cuda") == "cuda:1"
    assert own_device("cuda:3") == "cuda:3"
    assert own_device("cpu") == "cpu"
    assert engine_device("onnx", "auto") == "cpu"  # whatever GPUs there are
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert own_device("auto") == "cpu"
    assert own_device("cuda") == "cuda"  # refused by name where torch cannot use it
    monkeypatch.setenv("RANK", "first")
    assert not several()
