"""Benches that train: runs of `medseg train`, `predict` and `evaluate`, kept in MEDSEG_RUNS where that is set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


@contextmanager
def folders() -> Iterator[tuple[Path, Path]]:
    """(runs, work): where finished runs are kept or found, and a folder that goes."""
    with TemporaryDirectory() as made:
        runs = Path(os.environ.get("MEDSEG_RUNS") or Path(made, "runs"))
        runs.mkdir(parents=True, exist_ok=True)
        yield runs, Path(made)


def train(run: Path, bundle: Path, data: Path, minutes: float) -> Path:
    """Train, unless the run is there and done."""
    if not (run / "models" / "model.safetensors").is_file():
        medseg("train", bundle, data, "-o", run, "--minutes", minutes)
    return run


def medseg(*words) -> None:
    command = [sys.executable, "-m", "medseg", *map(str, words)]
    subprocess.run(command, check=True, stdout=sys.stderr)


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def pooled(scores: Path) -> dict[str, dict[str, dict]]:
    """structure -> metric -> row of `medseg evaluate -c instances` over the instances of all cases."""
    found: dict[str, dict[str, dict]] = {}
    for row in read(scores / "summary.json")["pooled_intervals"]:
        found.setdefault(row["structure"], {})[row["metric"]] = row
    return found


def row(case: str, peer: str, ours: float, theirs: float) -> dict:
    ratio = ours / theirs if theirs else float("inf")
    return {"case": case, "peer": peer, "ratio": ratio, "medseg": ours, "theirs": theirs, "unit": ""}
