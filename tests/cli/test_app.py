"""The terminal's promises: exit codes, where output goes, and what an error looks like."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import medseg
from medseg.cli.app import run
from medseg.errors import BundleError, ChoiceError, InputError, MemoryLimitError, OutputError

COMMANDS = ["doctor", "demo", "bundles", "inspect", "predict", "evaluate", "view", "train", "bundle"]


@pytest.fixture
def raising(monkeypatch):
    """Make `medseg bundles` raise what is given, as a room below would."""

    def plant(error: BaseException) -> None:
        def fail():
            raise error

        monkeypatch.setattr("medseg.workflows.catalogue.list_bundles", fail)

    return plant


def test_version_goes_to_stdout(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr() == (f"medseg {medseg.__version__}\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_listed_and_explains_itself(command, capsys):
    assert run(["--help"]) == 0
    assert command in capsys.readouterr().out
    assert run([command, "--help"]) == 0
    assert "Usage: medseg " + command in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["segment"], "No such command 'segment'"),
        (["predict", "x"], "Missing option '-o'"),
        (["inspect"], "Missing argument"),
        (["doctor", "--colour"], "No such option"),
    ],
)
def test_wrong_usage_exits_2_and_says_why(argv, said, capsys):
    assert run(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("MS-N101", "the file ends early", file="a.nii.gz", mend="copy it again"), 3),
        (BundleError("MS-B101", "no such bundle", mend="type medseg bundles"), 4),
        (MemoryLimitError("MS-M101", "it does not fit", mend="close other programs"), 5),
        (OutputError("MS-O301", "in use", file="out", mend="wait"), 7),
    ],
)
def test_an_error_shows_code_file_and_mend_and_sets_the_exit_code(error, code, raising, capsys):
    raising(error)
    assert run(["bundles"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[0] == f"error {error.code}: {error.what}"
    assert f"-> {error.mend}" in err
    assert error.file is None or f"in {error.file}" in err
    assert "Traceback" not in err


def test_choices_are_listed_and_a_long_mend_is_never_wrapped(raising, capsys):
    mend = "type: medseg predict scans -o out -b bundle --series " + ".".join(["1234567890"] * 40)
    raising(ChoiceError("MS-D101", "2 series", mend=mend, candidates=["--series 3  T1", "--series 4  T2"]))
    assert run(["bundles"]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert "     --series 4  T2" in lines
    assert f"  -> {mend}" in lines


def test_a_file_name_cannot_forge_terminal_output(raising, capsys):
    raising(InputError("MS-N101", "bad", file="x\x1b[2J\n[bold]ok", mend="rename it"))
    assert run(["bundles"]) == 3
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert "x\\x1b[2J\\n[bold]ok" in err


def test_a_bug_exits_1_and_asks_for_a_report(raising, capsys):
    raising(RuntimeError("boom"))
    assert run(["bundles"]) == 1
    err = capsys.readouterr().err
    assert "RuntimeError: boom" in err
    assert "--debug" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("argv", [["--debug", "bundles"], ["bundles", "--debug"]])
def test_debug_shows_the_traceback_wherever_it_stands(argv, raising, capsys):
    raising(RuntimeError("boom"))
    assert run(argv) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_an_interrupt_exits_130(raising, capsys):
    raising(KeyboardInterrupt())
    assert run(["bundles"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_json_is_alone_on_stdout_and_the_table_on_stderr(capsys):
    assert run(["bundles", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    names = [row["name"] for row in json.loads(out)]
    assert "hippocampus_mri_segmentation" in names
    assert run(["bundles"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert all(name in err for name in names)


def test_python_dash_m_and_the_module_agree():
    ran = subprocess.run([sys.executable, "-m", "medseg", "--version"], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, f"medseg {medseg.__version__}\n")
    ran = subprocess.run([sys.executable, "-m", "medseg", "predict"], capture_output=True, text=True, check=False)
    assert ran.returncode == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_needs_no_torch(shell):
    code = "import sys; from medseg.cli.app import run; run([]); print('torch' in sys.modules, file=sys.stderr)"
    words = {"COMP_WORDS": "medseg pre", "COMP_CWORD": "1", "_TYPER_COMPLETE_ARGS": "medseg pre"}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "", "_MEDSEG_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args", **words},
    )
    assert "predict" in ran.stdout
    assert ran.stderr.strip() == "False"
