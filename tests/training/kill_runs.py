"""Trains a recipe once whole, and once killed by SIGKILL again and again; a program of its own for test_resume.py.

    python kill_runs.py RECIPE DATA OUT KILLS (medseg|monai) SEED

Imports take longer than the runs, so they are made once, here, and every run is a fork. Prints JSON: after how many
steps each run was killed, and what it had left.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from monai.bundle import run as monai_run

from medseg.training.checkpoint_file import checkpoints
from medseg.training.schedule import BudgetedSchedule
from medseg.training.train import train_bundle

EPOCHS = 6


def train(how: str, recipe: Path, data: Path, out: Path, *, resume: bool) -> None:
    if how == "medseg":
        train_bundle(recipe, data, out, epochs=EPOCHS, resume=resume)
        return
    (out / "models").mkdir(parents=True, exist_ok=True)
    options = {"dataset_dir": str(data), "output_dir": str(out / "models"), "epochs": EPOCHS, "resume": resume}
    monai_run(config_file=str(recipe / "configs" / "train.json"), bundle_root=str(recipe), **options)


def started(how: str, recipe: Path, data: Path, out: Path) -> tuple[int, int]:
    """A run in a process of its own: its id, and a pipe from which one byte comes for every step that begins."""
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        return child, read
    os.close(read)
    log = os.open(out.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    set_rate = BudgetedSchedule._set_rate
    BudgetedSchedule._set_rate = lambda self, engine: (set_rate(self, engine), os.write(write, b"."))[0]
    code = 1
    try:
        train(how, recipe, data, out, resume=bool(checkpoints(out / "models")))
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


def main(recipe: Path, data: Path, out: Path, kills: int, how: str, seed: int) -> None:
    child, pipe = started(how, recipe, data, out / "whole")
    times = []
    while os.read(pipe, 1):
        times.append(time.monotonic())
    steps = len(times)
    assert os.waitpid(child, 0)[1] == 0, (out / "whole.log").read_text()
    rng = random.Random(seed)
    told = []
    while len(told) < kills:
        child, pipe = started(how, recipe, data, out / "killed")
        wanted, seen = rng.randint(1, steps // kills - 1), 0  # the last kill still finds it running
        while seen < wanted and os.read(pipe, 1):
            seen += 1
        time.sleep(rng.random() * (times[-1] - times[0]) / steps)
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        left = [path.name for path in checkpoints(out / "killed" / "models")]
        if not left:  # killed before the first checkpoint: start anew
            shutil.rmtree(out / "killed", ignore_errors=True)
        if not os.WIFSIGNALED(status) or (out / "killed" / "models" / "model.pt").exists():
            assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, (out / "killed.log").read_text()
            break  # it came to its end
        told.append({"steps": seen, "left": left})
    child, pipe = started(how, recipe, data, out / "killed")
    rest = 0
    while os.read(pipe, 1):
        rest += 1
    assert os.waitpid(child, 0)[1] == 0, (out / "killed.log").read_text()
    sys.stdout.write(json.dumps({"steps": steps, "killed": told, "rest": rest}) + "\n")


if __name__ == "__main__":
    recipe, data, out, kills, how, seed = sys.argv[1:]
    main(Path(recipe), Path(data), Path(out), int(kills), how, int(seed))
