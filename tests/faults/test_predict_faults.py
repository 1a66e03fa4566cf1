"""What is left in the output folder when a run is killed, when the disk is full, and when two runs meet.

One child process imports everything once and forks a run for every trial, because importing takes seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medseg.writers.nifti import write_nifti

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork and POSIX signals")

HARNESS = '''
import json, os, random, resource, signal, sys, time, traceback
from pathlib import Path
import torch
torch.set_num_threads(1)
import nibabel, numpy as np
from medseg.bundle.load import load_bundle
from medseg.errors import MedsegError
from medseg.reports.preview import preview_png
from medseg.workflows.predict import predict
from medseg.writers.atomic import sha256

bundle = load_bundle(sys.argv[1])
scans, place = Path(sys.argv[2]), Path(sys.argv[3])
CASES = ["a", "b", "c"]


def forked(work):
    """Start work() in a fork; returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell starts with it ignored
    try:
        code = work()
    except MedsegError as error:
        print(json.dumps({"child": error.code, "says": error.what}), file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    finally:
        os._exit(code)


def run(out, **options):
    return forked(lambda: predict(scans, bundle, out, **options).exit_code)


def exit_code(pid):
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def visible(out):
    """Hash of every label map that can be seen; each must read to its last byte."""
    found = {}
    for path in sorted(Path(out).rglob("segmentation.nii.gz")):
        if ".medseg" in path.parts or path.name.startswith(".medseg"):
            continue
        np.asarray(nibabel.load(path).dataobj)
        found[path.relative_to(out).as_posix()] = sha256(path)
    return found


def details(out):
    return {p.relative_to(out).as_posix(): sha256(p) for p in sorted(Path(out).rglob("*"))
            if p.is_file() and p.name not in ("record.json", ".medseg.lock")}


def main(parts, root):
    report = {}
    for name, body in parts.items():
        scope = {**globals(), "place": root / name, "kills": int(sys.argv[4])}
        try:
            exec(body, scope)
            report[name] = scope["result"]
        except BaseException:
            report[name] = {"error": traceback.format_exc()}
    print(json.dumps(report))


main(json.loads(sys.argv[5]), place)
'''

KILL = """
start = time.perf_counter()
assert exit_code(run(place / "whole")) == 0
lasts = time.perf_counter() - start
whole, everything = visible(place / "whole"), details(place / "whole")
random.seed(0)
killed = []
for trial in range(kills):
    out = place / f"killed{trial}"
    pid = run(out)
    time.sleep(random.random() * lasts)
    os.kill(pid, signal.SIGKILL)
    exit_code(pid)
    seen = visible(out)
    assert all(whole[name] == digest for name, digest in seen.items()), (trial, seen)
    killed.append(len(seen))
    assert exit_code(run(out, resume=True)) == 0
    assert details(out) == everything, (trial, sorted(dict(details(out).items() ^ everything.items())))
    assert not (out / ".medseg").exists()
result = {"seen": killed}
"""

FULL = """
def limited(out, size):
    def work():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        return predict(scans, bundle, out).exit_code
    return forked(work)

assert exit_code(run(place / "whole")) == 0
whole = visible(place / "whole")
sizes = sorted({p.stat().st_size for p in (place / "whole").rglob("*") if p.is_file() and p.stat().st_size})
codes = []
for n, size in enumerate([sizes[0] - 1, sizes[len(sizes) // 2] - 1, sizes[-1] - 1, 1, 400]):
    out = place / f"full{n}"
    code = exit_code(limited(out, size))
    assert code not in (0, 1), (size, code)
    seen = visible(out)
    assert all(whole[name] == digest for name, digest in seen.items()), size
    codes.append(code)
    assert exit_code(run(out, resume=True)) == 0
    assert visible(out) == whole
result = {"codes": codes}
"""

TWO = """
results = []
for trial in range(2):
    out = place / f"two{trial}"
    pids = [run(out), run(out)]
    results.append(sorted(exit_code(pid) for pid in pids))
    assert len(visible(out)) == 3
result = {"codes": results}
"""

INTERRUPT = """
from medseg.workflows.reporter import Reporter

class Tells(Reporter):
    def done(self, report):
        os.write(pipe[1], b"x")

for trial in range(1):
    out = place / f"int{trial}"
    pipe = os.pipe()
    pid = forked(lambda: predict(scans, bundle, out, progress=Tells()).exit_code)
    os.read(pipe[0], 1)
    os.kill(pid, signal.SIGINT)
    code = exit_code(pid)
    assert code == 130, code
    record = json.loads((out / "record.json").read_text())
    assert record["state"] == "interrupted"
    assert record["cases"]["a"] == "done"
    assert len(visible(out)) == len(record["cases"])
    assert exit_code(run(out, resume=True)) == 0
result = {"code": code}
"""


PARTS = {"kill": KILL, "full": FULL, "two": TWO, "interrupt": INTERRUPT}


def trials(folder: Path, bundle: Path, parts: dict[str, str], kills: int) -> dict[str, dict]:
    """Run the parts in one child process, each in a folder of its own; what each found, or its traceback."""
    for seed, name in enumerate("abc"):
        array = np.random.default_rng(seed).random((20, 22, 18), dtype=np.float32) * 0.2
        array[4:9, 4:9, 4:9] = 1.0
        write_nifti(folder / "scans" / f"{name}.nii.gz", array, np.eye(4))
    script = folder / "harness.py"
    script.write_text(HARNESS, encoding="utf-8")
    command = [sys.executable, "-W", "ignore", str(script), str(bundle), str(folder / "scans"), str(folder)]
    done = subprocess.run(
        [*command, str(kills), json.dumps(parts)],
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def found(toy_bundle, tmp_path_factory):
    return trials(tmp_path_factory.mktemp("faults"), toy_bundle, PARTS, kills=6)


def test_kill_9_leaves_whole_files_only_and_resume_ends_as_if_nothing_had_happened(found):
    assert "error" not in found["kill"], found["kill"]["error"]
    assert len(found["kill"]["seen"]) == 6


@pytest.mark.slow
def test_kill_9_many_times(toy_bundle, tmp_path):
    kill = trials(tmp_path, toy_bundle, {"kill": KILL}, kills=60)["kill"]
    assert "error" not in kill, kill["error"]
    assert set(kill["seen"]) >= {0, 1, 2}


def test_a_full_disk_is_an_error_and_leaves_nothing_broken(found):
    assert "error" not in found["full"], found["full"]["error"]
    assert set(found["full"]["codes"]) <= {3, 6, 7}


def test_of_two_runs_in_one_folder_one_is_refused(found):
    assert "error" not in found["two"], found["two"]["error"]
    assert found["two"]["codes"] == [[0, 7], [0, 7]]


def test_ctrl_c_keeps_what_is_finished(found):
    assert "error" not in found["interrupt"], found["interrupt"]["error"]
    assert found["interrupt"]["code"] == 130
