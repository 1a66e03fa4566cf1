"""The bench of a federation, small: three uneven sites of real scans train together, and their model segments a scan."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

BENCH = Path(__file__).parents[3] / "scripts" / "benches" / "run.py"
MODELS = ("global", "alone north", "alone east", "alone south", "central")


def test_every_site_has_a_score_by_every_model_and_the_model_of_all_segments(data, tmp_path):
    scans = data("hippocampus")
    env = {**os.environ, "MEDSEG_RUNS": str(tmp_path), "MEDSEG_DATA": str(scans.parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(BENCH), "federated", "--quick", "--json"],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert {row["peer"] for row in json.loads(done.stdout)} >= {"alone north", "alone east", "alone south"}

    with (tmp_path / "fedavg" / "table.csv").open(encoding="utf-8") as file:
        rows = {row["site"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["north", "east", "south", "test", "mean", "worst"]
    assert list(rows["north"]) == ["site", "training cases", *MODELS]
    scores = [float(row[model]) for row in rows.values() for model in MODELS]
    assert all(math.isfinite(score) and 0 <= score <= 1 for score in scores)
    assert rows["test"]["training cases"] == "0"

    sent = (tmp_path / "fedavg" / "work" / "east" / "audit.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["verdict"] for line in sent] == ["sent"] * 3  # two updates, and the last scores

    scan = min((tmp_path / "data" / "test" / "imagesTr").iterdir())
    words = ["predict", str(scan), "-o", str(tmp_path / "out"), "-b", str(tmp_path / "fedavg" / "global")]
    predicted = subprocess.run([sys.executable, "-m", "medseg", *words], capture_output=True, text=True, check=False)
    assert predicted.returncode == 0, predicted.stderr[-4000:]
    assert list((tmp_path / "out").glob("*/segmentation.nii.gz"))
