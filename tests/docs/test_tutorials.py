"""Every tutorial runs as it stands, from top to bottom in an empty folder, and prints what it shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {path.stem: path for path in sorted((ROOT / "docs" / "tutorials").glob("*.md"))}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", PAGES)
def test_a_tutorial_runs_and_prints_what_it_shows(name, data, tmp_path):
    page = PAGES[name].read_text(encoding="utf-8")
    places = {"DATA": str(data("hippocampus"))} if "$DATA" in page else {}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # `medseg` and `python` are ours
    command = [sys.executable, str(ROOT / "tests" / "docs" / "tutorial.py"), str(PAGES[name])]
    ran = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "MEDSEG": str(ROOT), "PATH": path, **places},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout


def test_every_tutorial_is_in_the_menu():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert [name for name in PAGES if f"\ntutorials/{name}\n" not in index] == []
