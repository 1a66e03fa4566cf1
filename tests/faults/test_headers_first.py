"""Headers are judged before anything loads: the whole of bad and odd inputs, and 50 scans of which three are broken."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import medseg
from medseg.errors import MedsegError
from medseg.readers.cases import check_cases, find_cases
from medseg.readers.open import check
from medseg.writers.nifti import write_nifti
from tests.faults import test_bad_dicom, test_bad_files
from tests.faults.test_odd_files import ODD

#: What a user runs, saying besides whether torch was there when the headers were told, and when that was.
WATCHED = """
import sys, time
start = time.perf_counter()
from medseg.workflows import reporter
def refused(self, failures, total, tell=reporter.ConsoleReporter.refused):
    tell(self, failures, total)
    loaded = sorted({"torch", "monai"} & set(sys.modules))
    print(f"TOLD {len(failures)} {total} {time.perf_counter() - start:.2f} {loaded}", file=sys.stderr)
reporter.ConsoleReporter.refused = refused
from medseg.cli.app import run
sys.exit(run(sys.argv[1:]))
"""
AFFINE = np.diag([-1.0, 1.5, 2.0, 1.0])


def code_of(action) -> str:
    try:
        action()
    except MedsegError as error:
        return error.code
    return "sound"


def test_headers_never_say_other_than_reading_does(tmp_path, count):
    """A refusal by headers is the one that reading would give; what reading takes, they let pass."""
    cases = []
    for kind, make in test_bad_files.BAD.items():
        (tmp_path / f"f{len(cases)}").mkdir()
        cases.append((kind, test_bad_files.put(tmp_path / f"f{len(cases)}", make)))
    for kind, make in test_bad_dicom.BAD.items():
        place = tmp_path / f"d{len(cases)}"
        place.mkdir()
        make(place)
        cases.append((kind, place))
    for kind, make in ODD.items():
        place = tmp_path / f"o{len(cases)}"
        place.mkdir()
        cases.append((kind, make(place).path))
    other, early = {}, 0
    for kind, path in cases:
        said, true = code_of(lambda path=path: check(path)), code_of(lambda path=path: medseg.read(path))
        early += said != "sound"
        if said not in ("sound", true):
            other[kind] = (said, true)
    assert other == {}
    assert early >= 60
    count("bad inputs that headers tell", early, early, f"of {len(cases)} bad and odd ones, with the code of reading")


@pytest.fixture(scope="module")
def fifty(tmp_path_factory):
    """50 scans: one cut in half, one empty, one whose detached header points out of its folder."""
    place = tmp_path_factory.mktemp("fifty") / "scans"
    place.mkdir()
    array = np.random.default_rng(0).integers(0, 200, (20, 22, 18)).astype(np.int16)
    write_nifti(place / "scan00.nii.gz", array, AFFINE)
    sound = (place / "scan00.nii.gz").read_bytes()
    for n in range(1, 47):
        (place / f"scan{n:02}.nii.gz").write_bytes(sound)
    (place / "cut.nii.gz").write_bytes(sound[: len(sound) // 2])
    (place / "empty.nii.gz").write_bytes(b"")
    lines = [
        "ObjectType = Image",
        "NDims = 3",
        "DimSize = 4 4 4",
        "ElementType = MET_UCHAR",
        "TransformMatrix = 1 0 0 0 1 0 0 0 1",
    ]
    (place / "outside.mhd").write_text("\n".join([*lines, "ElementSpacing = 1 1 1", "ElementDataFile = /etc/passwd\n"]))
    return place


BROKEN = {"cut": "MS-F120", "empty": "MS-F104", "outside": "MS-R106"}


def command(*words) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-W", "ignore", "-c", WATCHED, "predict", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, check=False, env=env)


def told(done) -> tuple[int, int, float, str]:
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("TOLD"))
    _, failures, total, seconds, *loaded = line.split(maxsplit=4)
    return int(failures), int(total), float(seconds), loaded[0]


def test_headers_are_told_before_a_broken_bundle_is_and_before_torch_loads(fifty, tmp_path, count):
    (tmp_path / "bundle" / "configs").mkdir(parents=True)
    (tmp_path / "bundle" / "configs" / "metadata.json").write_text("{")
    done = command(fifty, "-b", tmp_path / "bundle", "-o", tmp_path / "out")
    failures, total, seconds, loaded = told(done)
    assert (failures, total, loaded) == (3, 50, "[]")
    assert done.returncode == 4
    table, error = done.stderr.index("3 of 50 cases are refused by their headers"), done.stderr.index("MS-B104")
    assert table < error
    for name, code in BROKEN.items():
        row = next(line for line in done.stderr[table:error].splitlines() if line.split()[:1] == [name])
        assert code in row
    assert not (tmp_path / "out").exists()
    count("broken scans of 50 told before torch and bundle load", failures, 3, f"{seconds:.1f} s after start")


def test_looking_at_50_scans_is_a_matter_of_a_moment(fifty):
    start = time.perf_counter()
    cases = check_cases(find_cases(fifty))
    assert time.perf_counter() - start < 2
    assert {case.name: case.error.code for case in cases if case.error} == BROKEN


def test_strict_begins_nothing(fifty, toy_bundle, tmp_path):
    done = command(fifty, "-b", toy_bundle, "-o", tmp_path / "out", "--strict")
    assert told(done)[3] == "[]"
    assert done.returncode == 3
    assert "MS-C130" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_sound_ones_are_done_and_the_broken_ones_kept_as_failed(fifty, toy_bundle, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    for name in ("scan00.nii.gz", "scan01.nii.gz", "cut.nii.gz", "empty.nii.gz", "outside.mhd"):
        shutil.copy(fifty / name, few / name)
    done = command(few, "-b", toy_bundle, "-o", tmp_path / "out", "--no-views", "--json")
    assert told(done)[:2] == (3, 5)
    assert done.returncode == 6, done.stderr
    cases = {case["name"]: case for case in json.loads(done.stdout)["cases"]}
    assert {name: case.get("code") for name, case in cases.items()} == {**BROKEN, "scan00": None, "scan01": None}
    failures = (tmp_path / "out" / "failures.csv").read_text(encoding="utf-8")
    assert all(code in failures for code in BROKEN.values())


def test_what_is_large_is_not_read_for_its_header(tmp_path):
    """Of a sound gzip file the first block of the decoder, half a megabyte, and the last bytes."""
    array = np.random.default_rng(0).integers(0, 2**15, (128, 128, 256)).astype(np.int16)
    write_nifti(tmp_path / "a.nii.gz", array, AFFINE)
    packed = (tmp_path / "a.nii.gz").stat().st_size
    assert packed > 5e6
    assert bytes_read(lambda: check(tmp_path / "a.nii.gz")) < 1e6


def bytes_read(action) -> int:
    """Bytes that this process asks the system for meanwhile."""
    if not Path("/proc/self/io").exists():
        pytest.skip("machine: no /proc/self/io")

    def so_far() -> int:
        with Path("/proc/self/io").open(encoding="ascii") as file:
            return int(next(line for line in file if line.startswith("rchar")).split()[1])

    before = so_far()
    action()
    return so_far() - before
