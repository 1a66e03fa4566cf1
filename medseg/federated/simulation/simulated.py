"""The process of a simulation, watched from outside: what it tells, what it leaves, and that nothing of it stays behind."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from medseg.errors import InputError, MedsegError
from medseg.federated.rounds import USED
from medseg.federated.server_state import FAILURE, read_rounds
from medseg.federated.server_table import key_metric, number_in
from medseg.writers.atomic import write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from medseg.federated.algorithm import Algorithm

_EVERY_S = 0.5


def run_simulator(
    job: Path,
    work: Path,
    participants: Mapping[str, Mapping[str, Any]],
    classes: Sequence[str],
    server: Path,
    how: Algorithm,
    tell: Callable[[str], object],
) -> None:
    """Run NVFLARE's simulator in a process of its own, to its end.

    Args:
        job: its folder.
        work: folder of workspace and log.
        participants: name -> what its own file says; 'server' is one of them.
        classes: that the job may name beside medseg's executor and controller.
        server: where the server keeps its rounds.
        how: the algorithm.
        tell: hears a line a site and round.

    Raises:
        InputError: the job failed: its code and words, such as MS-J018.
        MedsegError: MS-J023 it ended without saying why.
    """
    (server / FAILURE).unlink(missing_ok=True)
    workspace = work / "nvflare"
    if shlex.quote(str(workspace.resolve())) != str(workspace.resolve()):  # NVFLARE splits command lines at spaces
        workspace = Path(tempfile.mkdtemp(prefix="medseg-")) / "nvflare"
    spec = {
        "job": str(job.resolve()),
        "workspace": str(workspace.resolve()),
        "participants": {name: dict(said) for name, said in participants.items()},
        "classes": list(classes),
    }
    write_json(work / "simulator.json", spec)
    log = work / "simulation.log"
    began = len(read_rounds(server))
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "medseg.federated.simulation.simulator", str((work / "simulator.json").resolve())],
            cwd=work, env=_environment(len(participants) - 1), stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            start_new_session=True,
        )  # fmt: skip
        try:
            _watch(process, server, how, tell, began)
        finally:
            end(process)
    if process.returncode == 0 and not (server / FAILURE).is_file():
        if workspace.parent != work:
            shutil.rmtree(workspace.parent, ignore_errors=True)
        return
    raise _failure(server / FAILURE, log)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and everything that it started, also what has a session of its own."""
    family: list[psutil.Process] = []
    with suppress(psutil.Error):
        family = psutil.Process(process.pid).children(recursive=True)
    if process.poll() is None:
        process.kill()
    process.wait()
    for one in family:
        with suppress(psutil.Error):
            one.kill()
    psutil.wait_procs(family, timeout=10)


def _environment(sites: int) -> dict[str, str]:
    """Threads for each of several processes that compute at the same time, unless the user said how many."""
    each = max(1, (os.cpu_count() or 1) // max(1, sites))
    return {"OMP_NUM_THREADS": str(each), **os.environ}


def _watch(
    process: subprocess.Popen[bytes], server: Path, how: Algorithm, tell: Callable[[str], object], began: int
) -> None:
    """Tell every new round, until the process has ended."""
    while True:
        ended = process.poll() is not None
        rows = read_rounds(server)
        for row in rows[began:]:
            for line in lines_of(row, how):
                tell(line)
        began = max(began, len(rows))
        if ended:
            return
        time.sleep(_EVERY_S)


def lines_of(row: Mapping[str, Any], how: Algorithm) -> list[str]:
    """A line a site: what it did in a round, and how good the global model was there before it."""
    metric = key_metric([row])
    name = f"round {row['round'] + 1}/{how.rounds}" if row["round"] < how.rounds else "last model"
    found = []
    for site, one in row["sites"].items():
        words = [f"{name}  {site}  {one['outcome']}"]
        if one["outcome"] == USED:
            words.append(f"{one['steps']} steps")
            loss = number_in(one, "loss")
            words += [f"loss {loss:.4f}"] if loss == loss else []
        score = number_in(one, metric)
        words += [f"{metric} {score:.4f}"] if score == score else []
        words += [f"{one['after_s']:.0f} s"] if "after_s" in one else []
        words += [str(one["why"])] if one.get("why") else []
        found.append("  ".join(words))
    return found


def _failure(path: Path, log: Path) -> MedsegError:
    if path.is_file():
        said = json.loads(path.read_text(encoding="utf-8"))
        if said["code"]:
            return InputError(said["code"], said["what"], file=log, mend=said["mend"])
        return MedsegError("MS-J023", f"the simulation failed: {said['what']}", file=log, mend=_MEND)
    return MedsegError("MS-J023", "the simulation ended without saying why", file=log, mend=_MEND)


_MEND = "look at the end of this log, and go on with the same command and --resume"
