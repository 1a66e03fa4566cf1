"""`scripts/calibrate` prints an entry that a bundle can carry, on real scans."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from medseg.bundle.uncertainty import read_declared

SCRIPT = Path(__file__).parents[1] / "scripts" / "calibrate"


@pytest.mark.slow
def test_what_it_prints_is_what_a_bundle_declares(data, tmp_path):
    words = ["hippocampus_mri_segmentation", data("hippocampus"), "--cases", "3", "--methods", "mc"]
    run = subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = read_declared(json.loads(run.stdout), tmp_path).calibration["mc"]
    assert 1 < found.temperature < 10, "the network is too sure of its boundaries"
    assert set(found.dice) == {"Anterior hippocampus", "Posterior hippocampus"}
    for a, b in found.dice.values():
        assert b >= 0
        assert 0.6 < a + b <= 1.0
