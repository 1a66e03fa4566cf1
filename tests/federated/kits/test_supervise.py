"""A process held by a command: begun again when it dies, nothing left of it or its children when the command ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from medseg.errors import InputError, OutputError
from medseg.federated.kits import supervise as room
from medseg.federated.kits.kit import Kit
from medseg.federated.kits.supervise import supervise

#: Starts a child in a session of its own, as NVFLARE starts its jobs, that ignores SIGTERM; writes both ids.
FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen(
    [sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"],
    start_new_session=True,
)
with open("ids.tmp", "w") as file:
    file.write(f"{os.getpid()} {child.pid}")
os.replace("ids.tmp", "ids")
time.sleep(600)
"""


@pytest.fixture
def kit(tmp_path):
    return Kit(tmp_path, "site", "site-1", "h", "p", "localhost", 1, ("site-1",))


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def ids(kit) -> list[int]:
    return [int(one) for one in (kit.root / "ids").read_text(encoding="ascii").split()]


def gone(numbers) -> bool:
    return not any(psutil.pid_exists(one) and psutil.Process(one).status() != psutil.STATUS_ZOMBIE for one in numbers)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_when_it_is_asked_to_end_nothing_is_left(kit, monkeypatch):
    monkeypatch.setattr(room, "PEACE_S", 1.0)

    def ask():
        wait_for((kit.root / "ids").exists)
        time.sleep(1.2)  # until the child was seen
        os.kill(os.getpid(), signal.SIGTERM)

    asking = threading.Thread(target=ask)
    asking.start()
    with pytest.raises(KeyboardInterrupt):
        supervise([sys.executable, "-c", FAMILY], kit, print)
    asking.join()
    assert gone(ids(kit))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_killed_process_is_begun_again_and_its_orphans_are_ended(kit, monkeypatch):
    monkeypatch.setattr(room, "PEACE_S", 1.0)
    monkeypatch.setattr(room, "PAUSE_S", 0.1)
    told, first = [], []

    def kill():
        wait_for((kit.root / "ids").exists)
        time.sleep(1.2)
        first.extend(ids(kit))
        (kit.root / "ids").unlink()
        os.kill(first[0], signal.SIGKILL)
        wait_for((kit.root / "ids").exists)
        os.kill(os.getpid(), signal.SIGTERM)

    killing = threading.Thread(target=kill)
    killing.start()
    with pytest.raises(KeyboardInterrupt):
        supervise([sys.executable, "-c", FAMILY], kit, told.append)
    killing.join()
    assert len(told) == 1
    assert "code -9" in told[0]
    assert set(ids(kit)).isdisjoint(first)
    assert gone([*first, *ids(kit)])


def test_what_dies_again_and_again_is_given_up_with_its_words_kept(kit, monkeypatch):
    monkeypatch.setattr(room, "PAUSE_S", 0.0)
    told = []
    with pytest.raises(InputError, match="5 times, last with code 7") as caught:
        supervise([sys.executable, "-c", "print('no room', flush=True); raise SystemExit(7)"], kit, told.append)
    assert caught.value.code == "MS-J060"
    assert (kit.root / "console.txt").read_text(encoding="utf-8").split("\n").count("no room") == room.TIMES
    assert len(told) == room.TIMES - 1


def test_two_of_one_kit_are_refused(kit):
    from filelock import FileLock

    with FileLock(kit.root / ".medseg.lock"), pytest.raises(OutputError) as caught:
        supervise([sys.executable, "-c", "raise SystemExit(1)"], kit, print)
    assert caught.value.code == "MS-J061"
    assert not (kit.root / "console.txt").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="prctl of Linux")
def test_a_sites_process_ends_with_a_killed_parent(tmp_path):
    child = (
        "import time, os, pathlib; from medseg.federated.kits.site_process import die_with_parent; die_with_parent(); "
        "pathlib.Path('id').write_text(str(os.getpid())); time.sleep(600)"
    )
    parent = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", parent], cwd=tmp_path)
    wait_for((tmp_path / "id").exists)
    time.sleep(0.2)
    number = int(Path(tmp_path / "id").read_text(encoding="ascii"))
    process.kill()
    process.wait()
    wait_for(lambda: gone([number]))
