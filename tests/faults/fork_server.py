"""Runs of `medseg predict` that are disturbed, each in a fork of one process: importing takes longer than they do.

    python -m tests.faults.fork_server BUNDLE SCANS PLACE TIMES PART...

Prints JSON: part -> what was found, or {"error": traceback}. What does not hold is an AssertionError.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import torch

from medseg.bundle.load import Bundle, load_bundle
from medseg.errors import MedsegError
from medseg.reports.preview import preview_png  # noqa: F401  matplotlib is imported once, here
from medseg.stop import Stopped, stoppable
from medseg.workflows.predict import predict
from medseg.workflows.reporter import Reporter
from medseg.writers.atomic import TEMPORARY_PREFIX, sha256

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Trials:
    """What the parts share.

    Args:
        bundle: loaded.
        scans: three of them: a, b and c.
        place: an empty folder.
        times: how often each part disturbs a run.
    """

    bundle: Bundle
    scans: Path
    place: Path
    times: int

    def predict(self, out: Path, *, seen: bool = True, **options: Any) -> int:
        # Figures and pages take most of a run's time: a few trials write them too, many do not.
        views = seen and self.times <= 3
        return predict(self.scans, self.bundle, out, views=views, **options).exit_code

    def start(self, out: Path, **options: Any) -> int:
        return forked(lambda: self.predict(out, **options))

    def run(self, out: Path, **options: Any) -> int:
        return exit_code(self.start(out, **options))


def forked(work: Callable[[], int]) -> int:
    """Start work() in a fork, as a command of its own; returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell starts with it ignored
    try:
        with stoppable():
            code = work()
    except MedsegError as error:
        sys.stderr.write(f"{error.code} {error.what}\n")
        code = error.exit_code
    except Stopped as stopped:
        code = stopped.exit_code
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stderr.flush()
        os._exit(code)
    return pid


def exit_code(pid: int) -> int:
    """Wait for it; minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def visible(out: Path) -> dict[str, str]:
    """Hash of every label map that can be seen; each must read to its last byte."""
    found = {}
    for path in sorted(out.rglob("segmentation.nii.gz")):
        if ".medseg" in path.parts or path.name.startswith(".medseg"):
            continue
        np.asarray(nibabel.load(path).dataobj)  # type: ignore[attr-defined]
        found[path.relative_to(out).as_posix()] = sha256(path)
    return found


def details(out: Path) -> dict[str, str]:
    """Hash of every file but records, which tell how long things took."""
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    own = ("record.json", ".medseg.lock")
    return {path.relative_to(out).as_posix(): sha256(path) for path in files if path.name not in own}


def kill(trials: Trials) -> dict[str, Any]:
    """Kill -9 at random times: whole files only, and the rerun ends as if nothing had happened."""
    start = time.perf_counter()
    assert trials.run(trials.place / "whole") == 0
    lasts = time.perf_counter() - start
    whole, everything = visible(trials.place / "whole"), details(trials.place / "whole")
    chance = random.Random(0)
    seen = []
    for trial in range(trials.times):
        out = trials.place / f"killed{trial}"
        pid = trials.start(out)
        time.sleep(chance.random() * lasts)
        os.kill(pid, signal.SIGKILL)
        exit_code(pid)
        left = visible(out)
        assert all(whole[name] == digest for name, digest in left.items()), (trial, left)
        seen.append(len(left))
        assert trials.run(out, resume=True) == 0
        assert details(out) == everything, (trial, sorted(dict(details(out).items() ^ everything.items())))
        assert not (out / ".medseg").exists()
    return {"seen": seen}


def stop(trials: Trials) -> dict[str, Any]:
    """Ctrl-C and SIGTERM in turn at random times: as a kill, and the folder says what became of the run."""
    start = time.perf_counter()
    assert trials.run(trials.place / "whole") == 0
    lasts = time.perf_counter() - start
    whole, everything = visible(trials.place / "whole"), details(trials.place / "whole")
    chance = random.Random(1)
    codes, states, seen = [], [], []
    for trial in range(trials.times):
        out = trials.place / f"stopped{trial}"
        number = (signal.SIGTERM, signal.SIGINT)[trial % 2]
        read, write = os.pipe()
        pid = forked(lambda write=write, out=out: (os.write(write, b"."), trials.predict(out))[1])
        os.read(read, 1)  # from now on it hears
        time.sleep(chance.random() * lasts)
        os.kill(pid, number)
        codes.append(exit_code(pid))
        assert codes[-1] in (128 + number, 0, -number), (trial, codes[-1])
        left = visible(out)
        assert all(whole[name] == digest for name, digest in left.items()), (trial, left)
        seen.append(len(left))
        hidden = [path.name for path in out.rglob("*") if path.name.startswith((TEMPORARY_PREFIX, ".medseg"))]
        assert hidden == [], (trial, hidden)
        record = json.loads((out / "record.json").read_text("utf-8")) if (out / "record.json").exists() else None
        states.append(None if record is None else record["state"])
        assert states[-1] != "running", trial
        if record is None:
            assert left == {}, trial
        else:
            assert {f"{name}/segmentation.nii.gz" for name in record["cases"]} == set(left), (trial, record["cases"])
            assert states[-1] == "done" or codes[-1] == 128 + number, trial  # the others: it came after the end
            assert states[-1] == "interrupted" or len(left) == 3, trial
        assert trials.run(out, resume=True) == 0
        assert details(out) == everything, (trial, sorted(dict(details(out).items() ^ everything.items())))
    return {"codes": codes, "states": states, "seen": seen}


def full(trials: Trials) -> dict[str, Any]:
    """No file may be larger than a limit: the run says so, and nothing of what does not fit is seen."""

    def limited(out: Path, size: int) -> int:
        def work() -> int:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            return trials.predict(out)

        return exit_code(forked(work))

    assert trials.run(trials.place / "whole") == 0
    whole = visible(trials.place / "whole")
    files = [path.stat().st_size for path in (trials.place / "whole").rglob("*") if path.is_file()]
    sizes, times = sorted({size for size in files if size}), trials.times
    # One byte, and from there to one byte less than the largest file: each file in turn is the first that does not fit.
    limits = sorted({1, *(int(sizes[-1] ** (n / times)) for n in range(1, times)), *(size - 1 for size in sizes)})
    limits = [limits[n * (len(limits) - 1) // (times - 1)] for n in range(times)]
    codes = []
    for n, size in enumerate(limits):
        out = trials.place / f"full{n}"
        codes.append(limited(out, size))
        assert codes[-1] not in (0, 1), (size, codes[-1])
        assert all(whole[name] == digest for name, digest in visible(out).items()), size
        assert trials.run(out, resume=True) == 0
        assert visible(out) == whole
    return {"codes": codes, "limits": limits}


def tmpfs(trials: Trials) -> dict[str, Any]:
    """A real file system that is full; then there is room."""

    def mount(*words: str) -> None:
        subprocess.run(["mount", *words], check=True)

    assert trials.run(trials.place / "whole") == 0
    whole, everything = visible(trials.place / "whole"), details(trials.place / "whole")
    total = sum(path.stat().st_size for path in (trials.place / "whole").rglob("*") if path.is_file())
    codes = []
    for n in range(trials.times):
        out = trials.place / f"tmpfs{n}"
        out.mkdir()
        size = max(total * (n + 1) // (trials.times + 1) // 1024, 8)
        mount("-t", "tmpfs", "-o", f"size={size}k", "none", str(out))
        codes.append(trials.run(out))
        assert codes[-1] not in (0, 1), (n, codes[-1])
        assert all(whole[name] == digest for name, digest in visible(out).items()), n
        mount("-o", "remount,size=64m", str(out))
        assert trials.run(out, resume=True) == 0
        assert details(out) == everything, n
        subprocess.run(["umount", str(out)], check=True)
    return {"codes": codes}


def two(trials: Trials) -> dict[str, Any]:
    """Two runs on one folder: one works, the other is told so."""
    codes = []
    for trial in range(trials.times):
        out = trials.place / f"two{trial}"
        pids = [trials.start(out), trials.start(out)]
        codes.append(sorted(exit_code(pid) for pid in pids))
        assert len(visible(out)) == 3
    return {"codes": codes}


def interrupt(trials: Trials) -> dict[str, Any]:
    """Ctrl-C once the first case is done, while the second is worked on."""
    out, (read, write) = trials.place / "interrupted", os.pipe()

    class Tells(Reporter):
        def done(self, report: Any) -> None:
            os.write(write, b"x")

    pid = trials.start(out, progress=Tells())
    os.read(read, 1)
    os.kill(pid, signal.SIGINT)
    code = exit_code(pid)
    record = json.loads((out / "record.json").read_text("utf-8"))
    assert record["state"] == "interrupted"
    assert record["cases"]["a"] == "done"
    assert len(visible(out)) == len(record["cases"])
    assert trials.run(out, resume=True) == 0
    return {"code": code}


PARTS = {part.__name__: part for part in (kill, stop, full, tmpfs, two, interrupt)}


def main(bundle: str, scans: str, place: str, times: str, *parts: str) -> None:
    torch.set_num_threads(1)
    loaded, report = load_bundle(bundle), {}
    for name in parts:
        (Path(place) / name).mkdir()
        try:
            report[name] = PARTS[name](Trials(loaded, Path(scans), Path(place) / name, int(times)))
        except BaseException:  # noqa: BLE001  told to the test
            report[name] = {"error": traceback.format_exc()}
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
