"""`medseg federate simulate`: every word of the command line reaches the simulation, and its table is printed."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

from medseg.cli.app import run
from medseg.federated.simulation import simulate
from medseg.federated.simulation.site_table import SiteTable

TABLE = SiteTable("dice", ("a", "b"), {"a": 5, "b": 0}, {"global": {"a": 0.5, "b": math.nan}})


@pytest.fixture
def asked(monkeypatch):
    calls = []

    def answer(bundle, sites, algorithm, out, *, tell, **options):
        calls.append((bundle, sites, algorithm, out, options))
        tell("round 1/3  a  used")
        return simulate.Simulated(out / "global", {}, TABLE)

    monkeypatch.setattr(simulate, "simulate", answer)
    return calls


def test_plain_use_takes_the_algorithms_defaults(asked, capsys):
    assert run(["federate", "simulate", "recipe", "--sites", "sites.yaml", "-o", "out"]) == 0
    ((bundle, sites, how, out, options),) = asked
    assert (bundle, sites, out) == ("recipe", Path("sites.yaml"), Path("out"))
    assert (how.name, how.rounds, how.local_epochs, how.mu, how.quorum) == ("fedavg", 20, 1, 0.0, 2)
    assert options == {"overrides": {}, "init": None, "privacy": None, "compare": False, "look": True, "resume": False}
    said = capsys.readouterr()
    assert said.out == ""
    assert "round 1/3  a  used" in said.err
    assert "0.5000" in said.err
    assert "medseg predict -b" in said.err


def test_every_word_is_heard(asked, capsys):
    words = "--algorithm fedprox --rounds 3 --local-steps 7 --mu 0.5 --quorum 1 --init other --privacy fp16 --compare --no-look --resume --json"
    words += " --set learning_rate=0.01 --set patch_size=[8,8,8]"
    assert run(["federate", "simulate", "recipe", "--sites", "s.yaml", "-o", "out", *words.split()]) == 0
    ((_, _, how, _, options),) = asked
    assert (how.rounds, how.local_steps, how.local_epochs, how.mu, how.quorum) == (3, 7, None, 0.5, 1)
    assert options == {
        "overrides": {"learning_rate": 0.01, "patch_size": [8, 8, 8]}, "init": "other", "privacy": "fp16",
        "compare": True, "look": False, "resume": True,
    }  # fmt: skip
    said = json.loads(capsys.readouterr().out)
    assert said["metric"] == "dice"
    assert said["table"][1] == {"site": "b", "training cases": 0, "global": None}  # NaN is no JSON


@pytest.mark.parametrize("word", ["learning_rate", "=3", "a=[1"])
def test_a_change_that_is_none_is_wrong_usage(asked, capsys, word):
    assert run(["federate", "simulate", "recipe", "--sites", "s.yaml", "-o", "out", "--set", word]) == 2
    assert "MS-J015" in capsys.readouterr().err
    assert asked == []


def test_without_nvflare_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "nvflare", None)
    monkeypatch.setattr("medseg.federated.installed.find_spec", lambda name: None)
    assert run(["federate", "simulate", "recipe", "--sites", "s.yaml", "-o", "out"]) == 2
    said = capsys.readouterr().err
    assert "MS-J053" in said
    assert "medseg[federated]" in said


def test_help_loads_neither_nvflare_nor_torch():
    import subprocess

    code = (
        "import sys; from medseg.cli.app import run; assert run(['federate', 'simulate', '--help']) == 0; "
        "import medseg.federated; print([m for m in ('nvflare', 'torch', 'monai') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
