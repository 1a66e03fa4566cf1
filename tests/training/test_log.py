"""What a training says on the screen and what in its file: in a process of its own, whose logging nobody has touched."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings

import pytest

from medseg.training.log import in_file, on_screen

PROGRAM = """
import logging, os, sys, warnings
from pathlib import Path
from medseg.training.log import in_file, on_screen

def train(folder):
    ours, theirs = logging.getLogger("medseg.training.best"), logging.getLogger("ignite.engine.engine.Trainer")
    with on_screen():
        with on_screen(), in_file(folder / "training" / "log.txt"):
            ours.info("ours \\N{BRAIN}")
            theirs.info("theirs")
            theirs.error("theirs, in need")
            theirs.debug("too much")
            warnings.simplefilter("default")
            warnings.warn("old call")
        ours.info("after")
    ours.warning("outside")
    theirs.info("outside")

for name, level in {"plain": None, "debug": logging.INFO, "quiet": logging.WARNING}.items():
    folder = Path(sys.argv[1]) / name
    folder.mkdir()
    if os.fork() == 0:
        os.dup2(os.open(folder / "screen", os.O_WRONLY | os.O_CREAT), 2)
        if level is not None:
            logging.basicConfig(level=level, format="%(message)s")
        train(folder)
        sys.stderr.flush()
        os._exit(0)
    assert os.wait()[1] == 0
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """`said("plain")`: lines on the screen, and the file; importing takes longer than all three programs."""
    folder = tmp_path_factory.mktemp("log")
    env = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder)], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    return lambda name: (
        (folder / name / "screen").read_text("utf-8").splitlines(),
        (folder / name / "training/log.txt").read_text("utf-8"),
    )


def test_the_screen_has_ours_alone_and_the_file_all(said):
    screen, file = said("plain")
    assert [line.split(" ", 2)[-1] for line in screen[:2]] == ["ours \N{BRAIN}", "after"]
    assert screen[2:] == ["outside"]  # Python's own last resort
    for words in ("INFO medseg.training.best: ours \N{BRAIN}", "INFO ignite.engine.engine.Trainer: theirs", "theirs, in need",
                  "WARNING py.warnings: ", "old call"):  # fmt: skip
        assert file.count(words) == 1, words
    assert "too much" not in file
    assert "after" not in file


def test_with_debug_every_line_is_on_the_screen_once(said):
    screen, file = said("debug")
    lines = ["ours \N{BRAIN}", "theirs", "theirs, in need"]
    assert screen[:3] == lines
    assert screen[-3:] == ["after", "outside", "outside"]
    assert all(file.count(line) >= 1 for line in lines)


def test_a_program_that_shows_warnings_alone_sees_no_more(said):
    screen, file = said("quiet")
    assert screen[0] == "theirs, in need"
    assert "ours" not in " ".join(screen)
    assert "ours" in file


def test_logging_is_afterwards_as_it_was(tmp_path):
    root, own = logging.getLogger(), logging.getLogger("medseg")
    before = [
        root.level,
        own.level,
        root.handlers[:],
        [one.level for one in root.handlers],
        own.handlers[:],
        warnings.showwarning,
    ]
    for _ in range(2):  # a second run adds to the file
        with on_screen(), in_file(tmp_path / "log.txt"):
            own.info("a line")
    assert before == [
        root.level,
        own.level,
        root.handlers,
        [one.level for one in root.handlers],
        own.handlers,
        warnings.showwarning,
    ]
    assert (tmp_path / "log.txt").read_text("utf-8").count("a line") == 2
