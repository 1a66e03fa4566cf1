"""The watched process: what it leaves behind, and the lines it tells."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil

from medseg.federated.algorithm import load_algorithm
from medseg.federated.simulation.simulated import end, lines_of

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(100)
"""


def test_nothing_of_a_process_stays_behind():
    process = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE)
    child = int(process.stdout.readline())
    assert psutil.pid_exists(child)
    end(process)
    assert process.returncode is not None
    until = time.monotonic() + 10
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.05)
    end(process)  # once more: nothing to do


def test_a_line_a_site():
    how = load_algorithm("fedavg", rounds=3)
    row = {
        "round": 0,
        "sites": {
            "a": {
                "outcome": "used",
                "steps": 4,
                "after_s": 12.3,
                "metrics": {"dice": 0.25, "loss": 1.5, "seconds": 9.0},
            },
            "b": {"outcome": "refused", "why": "MS-J005 not finite", "metrics": {}, "after_s": 2.0},
            "c": {"outcome": "missing"},
        },
    }
    assert lines_of(row, how) == [
        "round 1/3  a  used  4 steps  loss 1.5000  dice 0.2500  12 s",
        "round 1/3  b  refused  2 s  MS-J005 not finite",
        "round 1/3  c  missing",
    ]
    assert lines_of({"round": 3, "sites": {"a": {"outcome": "tested"}}}, how) == ["last model  a  tested"]
