"""`medseg bundle export`: every word reaches the workflow, and what was found is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medseg.bundle.export import Exported
from medseg.bundle.export_check import Checked
from medseg.cli.app import run
from medseg.workflows import export
from medseg.workflows.export import ExportReport

CHECKED = Checked(5, 1000, 200, 0.9999, 0.9995, 1.2e-5, 8.0, 41.6)
ROW = Exported(("models/model.xml", "models/model.bin"), "openvino", (None, 1, 40, 56, 40), CHECKED, 71.2, 12.6)


@pytest.fixture
def asked(monkeypatch):
    """What the workflow was called with; it answers with `answer`."""
    calls = []

    def work(*args, **kwargs):
        calls.append((args, kwargs))
        return work.answer

    work.answer = ExportReport(Path("toy"), (ROW,))
    monkeypatch.setattr(export, "export", work)
    work.calls = calls
    return work


def test_plain_use(asked, capsys):
    assert run(["bundle", "export", "toy"]) == 0
    ((args, kwargs),) = asked.calls
    assert args == ("toy",)
    assert callable(kwargs.pop("hear"))
    assert kwargs == {"data": None, "formats": None, "members": False, "threads": None}
    out, err = capsys.readouterr()
    assert out == ""
    for word in ("models/model.xml, models/model.bin", "any x 1 x 40 x 56 x 40", "99.9900% of 1000", "99.950% of 200"):
        assert word in err
    assert all(
        word in err for word in ("1.2e-05", "12.6", "42", "71", "medseg predict SCANS -b toy -o OUT --engine openvino")
    )
    assert "left out" not in err
    assert "trust" not in err


def test_every_option_reaches_the_workflow(asked):
    words = ["--data", "scans", "--format", "onnx,pt2", "--members", "--threads", "2"]
    assert run(["bundle", "export", "toy", *words]) == 0
    ((_, kwargs),) = asked.calls
    kwargs.pop("hear")
    assert kwargs == {"data": Path("scans"), "formats": "onnx,pt2", "members": True, "threads": 2}


def test_what_was_left_out_and_trust_are_told(asked, capsys):
    asked.answer = ExportReport(Path("toy"), (), ("onnx", "openvino"), trusted=True)
    run(["bundle", "export", "toy"])
    err = capsys.readouterr().err
    assert 'left out: onnx, openvino -> pip install "medseg[export]"' in err
    assert "medseg bundle trust toy" in err
    assert "next:" not in err


def test_json_is_the_report(asked, capsys):
    assert run(["bundle", "export", "toy", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["exported"][0]["checked"]["largest_difference"] == 1.2e-5
    assert told["exported"][0]["takes"] == [None, 1, 40, 56, 40]


def test_a_bundle_that_is_not_there_exits_4(tmp_path, capsys):
    assert run(["bundle", "export", str(tmp_path / "nothing"), "--format", "pt2"]) == 4
    assert "MS-B101" in capsys.readouterr().err


def test_an_unknown_engine_of_predict_exits_2(tmp_path, capsys):
    words = ["predict", str(tmp_path), "-o", str(tmp_path / "out"), "-b", "toy", "--engine", "tensorrt"]
    assert run(words) == 2
    assert "MS-U311" in capsys.readouterr().err
