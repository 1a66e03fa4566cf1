"""Finding 3D Slicer: the variable rules, then PATH, then the usual folders, newest first."""

from __future__ import annotations

import os
import sys

import pytest

from medseg.workflows.slicer import find_slicer


def program(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_the_variable_rules(tmp_path):
    slicer = program(tmp_path / "my" / "Slicer")
    assert find_slicer({"SLICER_EXECUTABLE": str(slicer)}, folders=[]) == slicer


def test_a_variable_that_names_nothing_is_not_passed_over(tmp_path):
    program(tmp_path / "Slicer-5.12" / "Slicer")
    assert find_slicer({"SLICER_EXECUTABLE": str(tmp_path / "gone")}, platform="linux", folders=[tmp_path]) is None


def test_then_the_path(tmp_path):
    slicer = program(tmp_path / "bin" / ("Slicer.exe" if sys.platform == "win32" else "Slicer"))
    assert find_slicer({"PATH": str(tmp_path / "bin")}, folders=[]) == slicer


@pytest.mark.parametrize(
    ("platform", "places"),
    [
        ("linux", ["Slicer-5.10.0-linux-amd64/Slicer", "Slicer-5.12.3-linux-amd64/Slicer"]),
        ("darwin", ["Slicer-5.10.app/Contents/MacOS/Slicer", "Slicer.app/Contents/MacOS/Slicer"]),
        ("win32", ["Slicer 5.10.0/Slicer.exe", "Slicer 5.12.3/Slicer.exe"]),
    ],
)
def test_then_the_newest_in_the_usual_folders(tmp_path, platform, places):
    old, new = (program(tmp_path / place) for place in places)
    os.utime(old, (1, 1))
    assert find_slicer({}, platform=platform, folders=[tmp_path]) == new


def test_nowhere_is_none(tmp_path):
    assert find_slicer({}, folders=[tmp_path]) is None
