"""What is left in the output folder when a run is killed, when the disk is full, and when two runs meet.

One child process imports everything once and forks a run for every trial, because importing takes seconds.
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
# Figures and pages take most of a run's time: a few trials write them too, many do not.
VIEWS = int(sys.argv[4]) <= 3


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
    return forked(lambda: predict(scans, bundle, out, views=VIEWS, **options).exit_code)


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
        scope = {**globals(), "place": root / name, "times": int(sys.argv[4])}
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
for trial in range(times):
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
        return predict(scans, bundle, out, views=VIEWS).exit_code
    return forked(work)

assert exit_code(run(place / "whole")) == 0
whole = visible(place / "whole")
sizes = sorted({p.stat().st_size for p in (place / "whole").rglob("*") if p.is_file() and p.stat().st_size})
# One byte, and from there to one byte less than the largest file: each file in turn is the first that does not fit.
limits = sorted({1, sizes[-1] - 1, *(int(sizes[-1] ** (n / times)) for n in range(1, times)), *(s - 1 for s in sizes)})
limits = [limits[n * (len(limits) - 1) // (times - 1)] for n in range(times)]
codes = []
for n, size in enumerate(limits):
    out = place / f"full{n}"
    code = exit_code(limited(out, size))
    assert code not in (0, 1), (size, code)
    seen = visible(out)
    assert all(whole[name] == digest for name, digest in seen.items()), size
    codes.append(code)
    assert exit_code(run(out, resume=True)) == 0
    assert visible(out) == whole
result = {"codes": codes, "limits": limits}
"""

TMPFS = """
import subprocess

def mount(*words):
    subprocess.run(["mount", *words], check=True)

assert exit_code(run(place / "whole")) == 0
whole, everything = visible(place / "whole"), details(place / "whole")
total = sum(p.stat().st_size for p in (place / "whole").rglob("*") if p.is_file())
codes = []
for n in range(times):
    out = place / f"tmpfs{n}"
    out.mkdir()
    mount("-t", "tmpfs", "-o", f"size={max(total * (n + 1) // (times + 1) // 1024, 8)}k", "none", str(out))
    code = exit_code(run(out))
    assert code not in (0, 1), (n, code)
    seen = visible(out)
    assert all(whole[name] == digest for name, digest in seen.items()), n
    codes.append(code)
    mount("-o", "remount,size=64m", str(out))
    assert exit_code(run(out, resume=True)) == 0
    assert details(out) == everything, n
    subprocess.run(["umount", str(out)], check=True)
result = {"codes": codes}
"""

TWO = """
results = []
for trial in range(times):
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


def trials(
    folder: Path, bundle: Path, parts: dict[str, str], times: int, before: tuple[str, ...] = ()
) -> dict[str, dict]:
    """Run the parts in one child process, each in a folder of its own; what each found, or its traceback."""
    for seed, name in enumerate("abc"):
        array = np.random.default_rng(seed).random((20, 22, 18), dtype=np.float32) * 0.2
        array[4:9, 4:9, 4:9] = 1.0
        write_nifti(folder / "scans" / f"{name}.nii.gz", array, np.eye(4))
    script = folder / "harness.py"
    script.write_text(HARNESS, encoding="utf-8")
    command = [*before, sys.executable, "-W", "ignore", str(script), str(bundle), str(folder / "scans"), str(folder)]
    done = subprocess.run(
        [*command, str(times), json.dumps(parts)],
        capture_output=True,
        text=True,
        timeout=None if times > 10 else 550,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def found(toy_bundle, tmp_path_factory):
    return trials(tmp_path_factory.mktemp("faults"), toy_bundle, PARTS, times=3)


def test_kill_9_leaves_whole_files_only_and_resume_ends_as_if_nothing_had_happened(found):
    assert "error" not in found["kill"], found["kill"]["error"]
    assert len(found["kill"]["seen"]) == 3


@pytest.mark.slow
@pytest.mark.endurance
@pytest.mark.timeout(3600)
def test_100_kills(toy_bundle, tmp_path, capsys):
    kill = trials(tmp_path, toy_bundle, {"kill": KILL}, times=100)["kill"]
    assert "error" not in kill, kill["error"]
    assert len(kill["seen"]) == 100
    assert set(kill["seen"]) >= {0, 1, 2}
    say(capsys, "kill -9: 100 of 100 left whole files only, 100 of 100 reruns equal the undisturbed run")


@pytest.mark.slow
@pytest.mark.endurance
@pytest.mark.timeout(3600)
def test_20_full_disks_and_20_races(toy_bundle, tmp_path, capsys):
    found = trials(tmp_path, toy_bundle, {"full": FULL, "two": TWO}, times=20)
    assert "error" not in found["full"], found["full"]["error"]
    assert "error" not in found["two"], found["two"]["error"]
    assert len(found["full"]["codes"]) == 20
    assert set(found["full"]["codes"]) <= {3, 6, 7}
    assert found["two"]["codes"] == [[0, 7]] * 20
    say(
        capsys,
        f"full disk: 0 of 20 limits ({found['full']['limits'][0]} to {found['full']['limits'][-1]} bytes) called done",
    )
    say(capsys, "races: 20 of 20 with one winner, outputs whole")


@pytest.mark.slow
def test_a_small_disk_that_is_full_and_then_is_not(toy_bundle, tmp_path, capsys):
    """On a real file system of fixed size, which also counts folders, and where a rename may find no room."""
    own = ("unshare", "--mount")  # mounts of this test are nobody else's, and end with it
    place = str(tmp_path)
    mounted = [*own, "sh", "-c", f"mount -t tmpfs -o size=64k none {place}"]
    if shutil.which("unshare") is None or subprocess.run(mounted, capture_output=True, check=False).returncode:
        pytest.skip("machine: no tmpfs may be mounted here (run as root)")
    found = trials(tmp_path, toy_bundle, {"tmpfs": TMPFS}, times=5, before=own)["tmpfs"]
    assert "error" not in found, found["error"]
    assert len(found["codes"]) == 5
    assert set(found["codes"]) <= {3, 6, 7}
    say(capsys, "full tmpfs: 0 of 5 called done, 5 of 5 completed with --resume once there was room")


def say(capsys, line: str) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{line}\n")


def test_a_full_disk_is_an_error_and_leaves_nothing_broken(found):
    assert "error" not in found["full"], found["full"]["error"]
    assert set(found["full"]["codes"]) <= {3, 6, 7}


def test_of_two_runs_in_one_folder_one_is_refused(found):
    assert "error" not in found["two"], found["two"]["error"]
    assert found["two"]["codes"] == [[0, 7]] * 3


def test_ctrl_c_keeps_what_is_finished(found):
    assert "error" not in found["interrupt"], found["interrupt"]["error"]
    assert found["interrupt"]["code"] == 130
