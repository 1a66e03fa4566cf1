"""What is left in the output folder when a run is killed or stopped, when the disk is full, and when two runs meet.

The runs are forks of one process, see fork_server.py.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medseg.writers.nifti import write_nifti

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="machine: needs os.fork and POSIX signals")


def trials(folder: Path, bundle: Path, parts: str, times: int, before: tuple[str, ...] = ()) -> dict[str, dict]:
    """Run the parts in one child process, each in a folder of its own; what each found."""
    for seed, name in enumerate("abc"):
        array = np.random.default_rng(seed).random((20, 22, 18), dtype=np.float32) * 0.2
        array[4:9, 4:9, 4:9] = 1.0
        write_nifti(folder / "scans" / f"{name}.nii.gz", array, np.eye(4))
    command = [*before, sys.executable, "-W", "ignore", "-m", "tests.faults.fork_server", str(bundle)]
    done = subprocess.run(
        [*command, str(folder / "scans"), str(folder), str(times), *parts.split()],
        capture_output=True,
        text=True,
        timeout=None if times > 10 else 550,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for name, of in found.items():
        assert "error" not in of, f"{name}: {of['error']}\n{done.stderr[-2000:]}"
    return found


@pytest.fixture(scope="module")
def found(toy_bundle, tmp_path_factory):
    return trials(tmp_path_factory.mktemp("faults"), toy_bundle, "kill stop full two interrupt", times=3)


def test_kill_9_leaves_whole_files_only_and_resume_ends_as_if_nothing_had_happened(found, count):
    assert len(found["kill"]["seen"]) == 3
    count("kill -9 of predict, pages too", 3, 3, "left whole files only, reruns equal the undisturbed run")


def test_ctrl_c_and_sigterm_end_in_whole_files_and_a_true_record(found, count):
    assert len(found["stop"]["codes"]) == 3
    count("Ctrl-C and SIGTERM of predict, pages too", 3, 3, "left whole files and a true record, reruns equal")


def test_a_full_disk_is_an_error_and_leaves_nothing_broken(found, count):
    assert set(found["full"]["codes"]) <= {3, 6, 7}
    count("full disks, pages too", 3, 3, "an error, nothing broken")


def test_of_two_runs_in_one_folder_one_is_refused(found, count):
    assert found["two"]["codes"] == [[0, 7]] * 3
    count("races on one folder, pages too", 3, 3, "one winner, outputs whole")


def test_ctrl_c_keeps_what_is_finished(found):
    assert found["interrupt"]["code"] == 130


@pytest.mark.slow
@pytest.mark.endurance
@pytest.mark.timeout(3600)
def test_100_kills(toy_bundle, tmp_path, count):
    seen = trials(tmp_path, toy_bundle, "kill", times=100)["kill"]["seen"]
    assert len(seen) == 100
    assert set(seen) >= {0, 1, 2}
    count("kill -9 of predict", 100, 100, "left whole files only, reruns equal the undisturbed run")


@pytest.mark.slow
@pytest.mark.endurance
@pytest.mark.timeout(3600)
def test_40_stops(toy_bundle, tmp_path, count):
    stopped = trials(tmp_path, toy_bundle, "stop", times=40)["stop"]
    assert len(stopped["codes"]) == 40
    assert set(stopped["seen"]) >= {0, 1, 2}
    assert {130, 143} <= set(stopped["codes"])
    early = sum(code != 0 for code in stopped["codes"])
    assert early >= 20
    count("Ctrl-C and SIGTERM of predict", 40, 40, f"whole files, true records, reruns equal; {early} before its end")


@pytest.mark.slow
@pytest.mark.endurance
@pytest.mark.timeout(3600)
def test_20_full_disks_and_20_races(toy_bundle, tmp_path, count):
    found = trials(tmp_path, toy_bundle, "full two", times=20)
    full = found["full"]
    assert len(full["codes"]) == 20
    assert set(full["codes"]) <= {3, 6, 7}
    assert found["two"]["codes"] == [[0, 7]] * 20
    count("full disks", 20, 20, f"called an error ({full['limits'][0]} to {full['limits'][-1]} bytes), nothing broken")
    count("races on one folder", 20, 20, "one winner, outputs whole")


@pytest.mark.slow
def test_a_small_disk_that_is_full_and_then_is_not(toy_bundle, tmp_path, count):
    """On a real file system of fixed size, which also counts folders, and where a rename may find no room."""
    own = ("unshare", "--mount")  # mounts of this test are nobody else's, and end with it
    place = str(tmp_path)
    mounted = [*own, "sh", "-c", f"mount -t tmpfs -o size=64k none {place}"]
    if shutil.which("unshare") is None or subprocess.run(mounted, capture_output=True, check=False).returncode:
        pytest.skip("machine: no tmpfs may be mounted here (run as root)")
    codes = trials(tmp_path, toy_bundle, "tmpfs", times=5, before=own)["tmpfs"]["codes"]
    assert len(codes) == 5
    assert set(codes) <= {3, 6, 7}
    count("full tmpfs", 5, 5, "called an error, completed with --resume once there was room")
