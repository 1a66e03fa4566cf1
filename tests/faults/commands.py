"""Real commands as processes of their own, disturbed while they work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.writers.nifti import write_nifti

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parents[2]
#: A command that has not ended so long after it was told to hangs, s; a busy machine starts one in a minute.
PATIENCE = 300


class Command:
    """`medseg WORDS`, in a session of its own; what it says on standard error is in `said`."""

    def __init__(self, *words: object, env: Mapping[str, str] | None = None, before: Sequence[str] = ()) -> None:
        around = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [*before, sys.executable, "-m", "medseg", *map(str, words)],
            env={**os.environ, **around, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.said = self.out = ""

    def until(self, words: str) -> None:
        """Wait for a line with these words."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line.decode("utf-8", "replace")
            if words in self.said:
                return
        msg = f"it ended with {self.process.wait()} and never said {words!r}:\n{self.said}"
        raise AssertionError(msg)

    def ctrl_c(self) -> None:
        """As a terminal does it: to every process of the command."""
        os.killpg(self.process.pid, signal.SIGINT)

    def terminate(self, *, all_of_it: bool = False) -> None:
        """SIGTERM to the command, or as `timeout` and queues of clusters do it: to every process of it."""
        (os.killpg if all_of_it else os.kill)(self.process.pid, signal.SIGTERM)

    def kill_children(self) -> list[int]:
        """Kill every child process that it has or begins, until it has ended; their ids."""
        killed: list[int] = []
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < end:
            with suppress(OSError):
                for path in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
                    for pid in path.read_text(encoding="ascii").split():
                        os.kill(int(pid), signal.SIGKILL)
                        killed.append(int(pid))
            time.sleep(0.02)
        return killed

    def end(self) -> int:
        """Wait until it has ended; its exit code. Nothing of it is left then, or this fails."""
        try:
            out, said = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            out, said = self.process.communicate()
            msg = f"it hangs:\n{self.said}{said.decode('utf-8', 'replace')}"
            raise AssertionError(msg) from None
        self.said += said.decode("utf-8", "replace")
        self.out += out.decode("utf-8", "replace")
        self._alone()
        return self.process.returncode

    def _alone(self) -> None:
        for _ in range(50):  # one that was just told to end may take a moment
            try:
                os.killpg(self.process.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.1)
        os.killpg(self.process.pid, signal.SIGKILL)
        msg = f"a child process is left behind:\n{self.said}"
        raise AssertionError(msg)


def write_scans(folder: Path, names: str | Sequence[str] = "abc") -> Path:
    """Scans with a bright block, as the toy bundle takes them."""
    for seed, name in enumerate(names):
        array = np.random.default_rng(seed).random((20, 22, 18), dtype=np.float32) * 0.2
        array[4:9, 4:9, 4:9] = 1.0
        write_nifti(folder / f"{name}.nii.gz", array, np.eye(4))
    return folder


def details(out: Path) -> dict[str, bytes]:
    """Content of every file but records, which tell how long things took."""
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    own = ("record.json", ".medseg.lock")
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files if path.name not in own}
