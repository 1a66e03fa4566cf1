"""A folder shared by two processes of torchrun, one of which is killed: none waits for it, what is finished is kept."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from medseg.workflows.predict import predict
from tests.faults.commands import Command, details, write_scans

CASES = "abcdefghijkl"
LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "--no-python")

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="machine: needs Linux's /proc")


def processes_of(word: str) -> dict[str, int]:
    """Rank -> number of the process of torchrun that has `word` among its arguments."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if word.encode() in (folder / "cmdline").read_bytes().split(b"\0"):
                around = dict(
                    one.split(b"=", 1) for one in (folder / "environ").read_bytes().split(b"\0") if b"=" in one
                )
                found[around.get(b"RANK", b"").decode()] = int(folder.name)
        except OSError:
            continue
    found.pop("", None)  # the launcher
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_one_of_two_processes_is_killed(toy_bundle, tmp_path, rank, count):
    scans, alone, out = write_scans(tmp_path / "scans", CASES), tmp_path / "alone", tmp_path / "out"
    words = [scans, "-o", out, "-b", toy_bundle, "--device", "cpu"]
    both = Command("predict", *words, before=(sys.executable, *LAUNCHER))
    both.until(": done in")
    ranks = processes_of(str(out))
    assert ranks.keys() == {"0", "1"}
    os.kill(ranks[rank], signal.SIGKILL)
    began = time.monotonic()
    assert both.end() not in (0, None), both.said
    assert time.monotonic() - began < 120, "the other one waited for it"
    assert not any(is_alive(pid) for pid in ranks.values())

    predict(scans, toy_bundle, alone, device="cpu")
    whole = details(alone)
    left = {name: content for name, content in details(out).items() if "/" in name and not name.startswith(".")}
    assert left.items() <= whole.items(), "whole files only"
    cut = {name.split("/")[0] for name in whole.keys() - left.keys()}  # of one in the middle of being published too
    finished = set(CASES) - cut
    assert finished, "one was done before"
    assert finished < set(CASES), "it came too late"
    assert all((out / name / "record.json").is_file() for name in finished)

    again = Command("predict", *words, "--resume")
    assert again.end() == 0, again.said
    assert again.said.count("finished before") == len(finished)
    assert details(out) == whole
    count(
        f"predict by two processes, number {rank} killed", 1, 1, "no process left, whole cases, --resume does the rest"
    )
