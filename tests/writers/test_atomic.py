"""A file is there whole or not at all, whatever happens on the way."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from medseg.errors import OutputError
from medseg.writers import atomic
from medseg.writers.atomic import atomic_write, remove_leftovers, sha256, write_bytes, write_json, write_text

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write_text(path, "one\r\nü")
    assert path.read_bytes() == "one\r\nü".encode()
    write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(path.parent) == ["a.txt"]
    assert sha256(path) == hashlib.sha256(b"two").hexdigest()


def test_json(tmp_path):
    write_json(tmp_path / "a.json", {"p": Path("x"), "n": np.float32(0.5), "a": np.arange(2), "ü": None})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"p": "x", "n": 0.5, "a": [0, 1], "ü": None}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "b.json", {"n": float("nan")})
    with pytest.raises(TypeError, match="no plain data"):
        write_json(tmp_path / "b.json", {"n": object()})
    assert not (tmp_path / "b.json").exists()


def test_the_temporary_file_has_the_extension_of_the_target_and_lies_beside_it(tmp_path):
    seen = []
    atomic_write(tmp_path / "a.nii.gz", lambda p: (seen.append(p), p.write_bytes(b"x")))
    assert seen[0].parent == tmp_path
    assert seen[0].name.startswith(".")
    assert seen[0].name.endswith(".nii.gz")


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt()])
def test_nothing_is_left_when_writing_stops_half_way(tmp_path, error):
    (tmp_path / "a").write_bytes(b"old")

    def write(path):
        path.write_bytes(b"half")
        raise error

    with pytest.raises(type(error)):
        atomic_write(tmp_path / "a", write)
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "MS-O101"),
        (errno.EFBIG, "MS-O101"),
        (errno.EACCES, "MS-O102"),
        (errno.EROFS, "MS-O102"),
        (errno.EIO, "MS-O103"),
    ],
)
def test_errors_of_the_file_system(tmp_path, number, code):
    def write(path):
        path.write_bytes(b"half")
        raise OSError(number, os.strerror(number))

    with pytest.raises(OutputError, match=r"a\.txt") as caught:
        atomic_write(tmp_path / "a.txt", write)
    assert caught.value.code == code
    assert names(tmp_path) == []


def test_a_writer_that_writes_nothing(tmp_path):
    with pytest.raises(OutputError, match="nothing was written") as caught:
        atomic_write(tmp_path / "a", lambda path: None)
    assert caught.value.code == "MS-O104"


def test_what_cannot_be_read_back_never_appears(tmp_path):
    def check(path):
        msg = "torn"
        raise ValueError(msg)

    with pytest.raises(OutputError, match="ValueError: torn") as caught:
        atomic_write(tmp_path / "a", lambda path: path.write_bytes(b"x"), check=check)
    assert caught.value.code == "MS-O105"
    assert names(tmp_path) == []


def test_a_target_held_open_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "_PATIENCE", (0.0, 0.0))
    (tmp_path / "a").write_bytes(b"old")
    replace, calls = Path.replace, []

    def busy(self, target):
        calls.append(self)
        if len(calls) < 3:
            raise PermissionError(13, "used by another process")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", busy)
    write_bytes(tmp_path / "a", b"new")
    assert (len(calls), (tmp_path / "a").read_bytes()) == (3, b"new")
    calls.append(None)
    calls.clear()
    monkeypatch.setattr(Path, "replace", lambda self, target: busy(self, target) if len(calls) < 2 else denied())

    def denied():
        raise PermissionError(13, "used by another process")

    with pytest.raises(OutputError, match="close it|another program") as caught:  # noqa: RUF043
        write_bytes(tmp_path / "a", b"newer")
    assert caught.value.code == "MS-O106"
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"new"


@posix
def test_a_link_is_replaced_not_followed(tmp_path):
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "a").symlink_to("precious")
    write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert not (tmp_path / "a").is_symlink()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be written") as caught:
        write_bytes(tmp_path / "file" / "a", b"")
    assert caught.value.code == "MS-O103"


@posix
def test_killed_half_way_leaves_only_what_remove_leftovers_knows(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from medseg.writers.atomic import atomic_write\n"
        "def write(p):\n"
        "    p.write_bytes(b'half'); print('now', flush=True); time.sleep(60)\n"
        "atomic_write(Path(sys.argv[1]) / 'a.bin', write)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline().strip() == b"now"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert not (tmp_path / "a.bin").exists()
    assert len(names(tmp_path)) == 1
    (tmp_path / ".hidden").write_bytes(b"mine")
    assert len(remove_leftovers(tmp_path)) == 1
    assert names(tmp_path) == [".hidden"]


@posix
def test_a_disk_that_fills_up_leaves_nothing_at_any_point(tmp_path):
    script = (
        "import pathlib, resource, sys\n"
        "import numpy as np\n"
        "from medseg.errors import OutputError\n"
        "from medseg.writers.nifti import write_nifti\n"
        "noise = np.random.default_rng(0).integers(0, 256, (64, 64, 80), dtype=np.uint8)\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "for limit in [0, 1, 10, 351, 352, *range(1000, 320000, 20000), 327000]:\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))\n"
        "    try:\n"
        "        write_nifti(folder / 'a.nii.gz', noise, np.eye(4))\n"
        "    except OutputError as error:\n"
        "        assert error.code == 'MS-O101', error\n"
        "        assert not list(folder.iterdir()), limit\n"
        "    else:\n"
        "        sys.exit(f'success with {limit} bytes')\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


@posix
def test_random_kills_never_leave_a_partial_result(tmp_path):
    script = (
        "import sys, numpy as np; from medseg.writers.nifti import write_nifti\n"
        "a = np.random.default_rng(0).integers(0, 9, (64, 64, 64), dtype=np.uint8)\n"
        "print('now', flush=True)\n"
        "while True:\n"
        "    write_nifti(sys.argv[1] + '/a.nii.gz', a, np.eye(4))\n"
    )
    from medseg.readers.nifti import read_nifti

    for n in range(2):
        child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(0.03 * (n + 1))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        if (tmp_path / "a.nii.gz").exists():
            assert read_nifti(tmp_path / "a.nii.gz").array.max() == 8
