"""`medseg predict --deterministic` twice, in two processes of unlike surroundings: the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.workflows.recorded_run import make

if TYPE_CHECKING:
    from pathlib import Path

#: What must not matter: the order of sets, the clock's zone, language, where temporary files lie.
SURROUNDINGS = (
    {"PYTHONHASHSEED": "1", "TZ": "UTC", "LC_ALL": "C.UTF-8"},
    {"PYTHONHASHSEED": "2", "TZ": "Pacific/Kiritimati", "LC_ALL": "C", "PYTHONUTF8": "0", "COLUMNS": "40"},
)


def start(place: Path, out: Path, surroundings: dict[str, str]) -> subprocess.Popen:
    words = ["predict", "scans", "-o", str(out), "-b", "small", "--outside-domain", "--deterministic", "--threads", "1"]
    words += ["--uncertainty", "mc:3", "--seed", "11", "--samples", "--dicom", "--mrb"]
    temporary = out.parent / f"tmp-{out.name}"
    temporary.mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "medseg", *words],
        cwd=place,
        env={**os.environ, **surroundings, "TMPDIR": str(temporary)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def made_by(process: subprocess.Popen, out: Path) -> dict[str, bytes]:
    _, said = process.communicate()
    assert process.returncode == 0, said.decode("utf-8", "replace")
    assert list((out.parent / f"tmp-{out.name}").iterdir()) == [], "nothing is left behind"
    own = ("record.json", ".medseg.lock")  # a record tells when and how fast
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file() and p.name not in own}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_deterministic_twice(toy_bundle, tmp_path, count):
    made = make(toy_bundle, tmp_path / "made", views=False)
    outs = [tmp_path / f"out{n}" for n in range(len(SURROUNDINGS))]
    processes = [start(made.place, out, around) for out, around in zip(outs, SURROUNDINGS, strict=True)]
    first, second = (made_by(process, out) for process, out in zip(processes, outs, strict=True))
    assert sorted(first) == sorted(second)
    assert [name for name in first if first[name] != second[name]] == []
    assert sum(name.endswith(".dcm") for name in first) == 4
    assert sum(name.endswith(".nii.gz") for name in first) == 3 * 4
    count("files of --deterministic, twice", len(first), len(second), "equal")
