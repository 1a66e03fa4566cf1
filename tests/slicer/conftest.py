"""What the tests of the Slicer module share: its folder on the path, a fake medseg, and Slicer's own code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "scripts" / "slicer" / "MedSeg"
HERE = Path(__file__).parent
sys.path.insert(0, str(MODULE))  # as Slicer does with a module's folder


@pytest.fixture
def fake(tmp_path) -> Path:
    """An executable that stands in for medseg, in a folder whose name has blanks and umlauts."""
    folder = tmp_path / "Müller's tools"
    folder.mkdir()
    path = folder / "medseg"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{HERE / "fake_medseg.py"}" "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture(scope="session")
def slicer_python() -> Path:
    """The Python that has slicer-core, the libraries of 3D Slicer."""
    folder = ROOT / ".venv-slicer"
    if not (folder / "complete").exists():
        pytest.skip("slicer-core is absent (install it: scripts/slicer-venv.sh)")
    return folder / "bin" / "python"


@pytest.fixture
def in_slicer(slicer_python, tmp_path):
    """`in_slicer("scenario", key=value)`: runs that function of in_slicer.py in Slicer's code; returns what it gives."""

    def run(scenario: str, **values):
        values = {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}
        words = [slicer_python, HERE / "in_slicer.py", scenario, json.dumps(values)]
        environ = {**os.environ, "TMPDIR": str(tmp_path)}
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300, env=environ)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run
