"""Hostile bundles and weights: none runs anything, reads outside its folder, writes or reaches for a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

#: These hold something evil that loading has no business with: they load, and it stays untouched.
UNTOUCHED = {"code in logging.conf", "scripts that nobody names", "modules of known names", "schema from a web server"}


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> dict[str, dict]:
    place = tmp_path_factory.mktemp("hostile")
    settings = {name: str(place / "settings") for name in ("XDG_CONFIG_HOME", "LOCALAPPDATA", "HOME")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.faults.hostile_bundles", str(place)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, **settings, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def attacks(report) -> dict[str, dict]:
    return {name: row for name, row in report.items() if not name.startswith(("sound: ", "proof"))}


def test_the_watch_hears_what_it_is_for(report):
    assert report["proof"]["outcome"] == "ran"
    heard = report["proof"]["heard"]
    assert any(line.startswith("os.system") for line in heard)
    assert any(line.startswith("read ") and line.endswith("outside.pt") for line in heard)


def test_none_runs_anything_or_reads_outside(report, count):
    found = attacks(report)
    assert {name: row["heard"] for name, row in found.items() if row["heard"]} == {}
    assert {name for name, row in found.items() if row["outcome"] == "loaded"} == UNTOUCHED
    refused = {name: row["outcome"] for name, row in found.items() if name not in UNTOUCHED}
    assert {name: code for name, code in refused.items() if not code.startswith("MS-B")} == {}
    assert len(found) >= 45
    note = f"neither ran nor read outside; {len(refused)} refused, {len(UNTOUCHED)} harmless"
    count("hostile bundles and weights", len(found), len(found), note)


def test_sound_bundles_load_under_the_same_watch(report, count):
    sound = {name: row for name, row in report.items() if name.startswith("sound: ")}
    assert [name for name, row in sound.items() if row != {"outcome": "loaded", "heard": []}] == []
    assert len(sound) >= 4, "MONAI's own components, medseg's, and every shipped bundle with weights"
    count("sound bundles", len(sound), len(sound), "load under the same watch")
