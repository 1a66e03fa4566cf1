from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

import pytest
from MedSegLib.environment import clean_environment
from MedSegLib.errors import MedSegError
from MedSegLib.process import Process


def wait(process, until=lambda: False, seconds=60.0):
    """Poll until it has ended or `until` holds; how long that took, s."""
    start = time.monotonic()
    while process.returncode is None and not until():
        assert time.monotonic() - start < seconds
        process.poll()
        time.sleep(0.01)
    return time.monotonic() - start


def start(*words, grace_s=0.3):
    return Process([sys.executable, *words], clean_environment(), grace_s=grace_s)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def told_pids(process):
    wait(process, lambda: any("pid" in line for line in process.lines))
    return [int(n) for n in re.findall(r"\d+", process.lines[-1].partition("pid")[2])]


def test_lines_come_while_it_runs_and_output_is_whole():
    code = "import sys, time; print('ö' * 100000); print('größe', file=sys.stderr); time.sleep(600)"
    process = start("-c", code)
    wait(process, lambda: bool(process.lines))
    assert (process.lines, process.returncode) == (["größe"], None)
    process.kill()
    done = start("-c", "import sys; print('ö' * 100000); sys.exit(6)")
    wait(done)
    assert (done.returncode, done.stdout) == (6, "ö" * 100000 + "\n")


def test_poll_never_waits():
    process = start("-c", "import time; time.sleep(600)")
    begin = time.monotonic()
    for _ in range(100):
        process.poll()
    assert time.monotonic() - begin < 1
    process.kill()


def test_cancel_is_an_interrupt_first(fake, tmp_path):
    process = Process(
        [str(fake), "predict", "x", "-o", str(tmp_path / "out"), "-b", "wait"], clean_environment(), grace_s=20
    )
    pids = told_pids(process)
    process.cancel()
    wait(process)
    assert (process.returncode, process.lines[-1], process.cancelled) == (130, "interrupted", True)
    assert not any(map(alive, pids))


def test_cancel_ends_one_that_does_not_listen_and_its_children(fake, tmp_path):
    words = [str(fake), "predict", "x", "-o", str(tmp_path / "out"), "-b", "stubborn"]
    process = Process(words, clean_environment(), grace_s=0.3)
    pids = told_pids(process)
    assert len(pids) == 2
    assert all(map(alive, pids))
    process.cancel()
    took = wait(process)
    assert process.returncode == -9
    assert 0.5 < took < 30
    time.sleep(0.1)
    assert not any(map(alive, pids))


def test_a_child_that_outlives_a_cancelled_run_is_ended_too(tmp_path):
    code = (
        "import signal, subprocess, sys, time\n"
        "sleep = 'import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print(1, flush=True); time.sleep(600)'\n"
        "child = subprocess.Popen([sys.executable, '-c', sleep], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)\n"
        "child.stdout.readline()\n"
        "print('pid', child.pid, file=sys.stderr, flush=True)\n"
        "time.sleep(600)\n"
    )
    process = start("-c", code)
    (child,) = told_pids(process)
    process.cancel()
    wait(process)
    time.sleep(0.1)
    assert not alive(child)


def test_kill_waits_for_the_end(fake, tmp_path):
    process = Process([str(fake), "predict", "x", "-o", str(tmp_path / "o"), "-b", "stubborn"], clean_environment())
    pids = told_pids(process)
    process.kill()
    time.sleep(0.1)
    assert not any(map(alive, pids))


def test_who_holds_the_pipe_open_is_not_waited_for():
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(20)'])"
    process = start("-c", code)
    assert wait(process) < 15
    assert process.returncode == 0
    os.killpg(process.pid, 9)


def test_a_program_that_cannot_be_started(tmp_path):
    with pytest.raises(MedSegError, match="could not be started: No such file"):
        Process([str(tmp_path / "medseg")], {})
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF")
    broken.chmod(0o755)
    with pytest.raises(MedSegError, match="could not be started: Exec format error"):
        Process([str(broken)], {})
