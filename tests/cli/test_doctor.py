"""`medseg doctor`: exit code, JSON, and mends that can be copied whole."""

from __future__ import annotations

import json

import pytest

from medseg.cli.app import run
from medseg.workflows.probe import Facts, Torch

GOOD = Facts(python=(3, 11, 7), torch=Torch("2.13.0"), memory_free_gb=16, memory_total_gb=32, disk_free_gb=100)


@pytest.fixture
def machine(monkeypatch):
    def plant(facts):
        monkeypatch.setattr("medseg.workflows.probe.probe", lambda: facts)

    return plant


def test_a_good_machine_exits_0(machine, capsys):
    machine(GOOD)
    assert run(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "Python 3.11.7" in err


def test_a_failed_check_exits_1_with_its_mend_on_a_line_of_its_own(machine, capsys):
    machine(Facts(python=(3, 11, 7), executable="/v/bin/python", torch_error="OSError: libcudart.so.13"))
    assert run(["doctor"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert "torch -> /v/bin/python -m pip install --force-reinstall --no-deps torch" in lines


def test_json_holds_every_check(machine, capsys):
    machine(GOOD)
    assert run(["doctor", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["verdict"] for row in rows} <= {"ok", "warn", "fail"}
    assert {"torch", "GPU", "memory", "DICOM codecs", "3D Slicer"} <= {row["name"] for row in rows}
