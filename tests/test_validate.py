"""`scripts/validate` scores what `medseg.predict` gives, on real scans."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import medseg

SCRIPT = Path(__file__).parents[1] / "scripts" / "validate"
BUNDLE = "hippocampus_mri_segmentation"


def test_scores_equal_those_of_the_python_interface(data, tmp_path):
    folder = data("hippocampus")
    names = ["hippocampus_008", "hippocampus_015"]
    (tmp_path / "cases.json").write_text(json.dumps(names), encoding="utf-8")
    words = [BUNDLE, folder, "--cases", tmp_path / "cases.json", "-o", tmp_path / "out"]
    run = subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    summary = json.loads((tmp_path / "out" / "evaluation" / "summary.json").read_text(encoding="utf-8"))
    expected = []
    for name in names:
        found = medseg.predict(folder / "imagesTr" / f"{name}.nii.gz", BUNDLE).segmentation.array == 1
        truth = medseg.read(folder / "labelsTr" / f"{name}.nii.gz").array == 1
        expected.append(2 * np.sum(found & truth) / (found.sum() + truth.sum()))
    dice = summary["structures"]["Anterior hippocampus"]["dice"]
    assert (summary["cases"], dice["n"]) == (2, 2)
    assert dice["mean"] == pytest.approx(np.mean(expected), abs=1e-6)
    assert "Posterior hippocampus  dice" in run.stdout
    assert "mean of structures  dice  0.8" in run.stdout or "mean of structures  dice  0.9" in run.stdout
