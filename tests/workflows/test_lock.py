from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from medseg.errors import OutputError
from medseg.workflows.lock import LOCK, WORK, output_lock

HOLD = """
import sys, time
from pathlib import Path
from medseg.workflows.lock import output_lock
with output_lock(Path(sys.argv[1])) as work:
    (work / "half.nii.gz").write_bytes(b"half")
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds tmp_path / 'out'."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "held"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_run_is_refused_and_told_who_holds_it(holder, tmp_path):
    with (
        pytest.raises(OutputError, match=rf"process {holder.pid} on .* since 20") as caught,
        output_lock(tmp_path / "out"),
    ):
        pass
    assert caught.value.code == "MS-O301"
    assert caught.value.exit_code == 7
    assert (tmp_path / "out" / WORK / "half.nii.gz").exists(), "the first run's files are left alone"


def test_a_killed_run_leaves_no_lock_behind_and_its_half_files_go(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    holder.wait()
    with output_lock(tmp_path / "out") as work:
        assert [path.name for path in work.iterdir()] == ["owner.json"]


def test_what_was_half_written_beside_its_target_when_a_run_was_killed_goes_too(tmp_path):
    dies = (
        "import os, signal, sys; from pathlib import Path; from medseg.writers.atomic import atomic_write\n"
        "atomic_write(Path(sys.argv[1]), lambda p: (p.write_text('{'), os.kill(os.getpid(), signal.SIGKILL)))"
    )
    for target in (tmp_path / "record.json", tmp_path / "case" / "record.json"):
        subprocess.run([sys.executable, "-c", dies, str(target)], check=False)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2
    (tmp_path / ".mine").write_text("stays")
    with output_lock(tmp_path):
        pass
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [".mine"]


def test_a_run_in_the_same_process_is_refused_too(tmp_path):
    with output_lock(tmp_path), pytest.raises(OutputError, match="MS-O301"), output_lock(tmp_path):
        pass


def test_nothing_is_left_behind(tmp_path):
    with output_lock(tmp_path / "a" / "b") as work:
        assert work.is_dir()
    assert [p.name for p in (tmp_path / "a" / "b").iterdir() if p.name != LOCK] == []
    with pytest.raises(ZeroDivisionError), output_lock(tmp_path / "a" / "b"):
        raise ZeroDivisionError
    with output_lock(tmp_path / "a" / "b"):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(OutputError, match=r"MS-O302 .*file.*a file of this name") as caught,
        output_lock(tmp_path / "file"),
    ):
        pass
    assert "-o" in caught.value.mend
