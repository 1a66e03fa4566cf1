"""`medseg bundle check`, `inspect`, `trust` and `import`: what they print and how they exit."""

from __future__ import annotations

import json

import pytest
import torch

from medseg.bundle import check
from medseg.cli.app import run
from tests.bundle.build import write_bundle
from tests.bundle.nnunet.made import DATASET, PLANS, checkpoint, network

BAD = check.Problem("MS-B301", "is missing", "LICENSE")
SLIGHT = check.Problem("MS-B305", "the model card says nothing of limits", "docs/README.md", warning=True)


@pytest.mark.parametrize(("problems", "code"), [([], 0), ([SLIGHT], 0), ([SLIGHT, BAD], 4)])
def test_check_exits_4_only_when_something_stops_the_bundle(problems, code, monkeypatch, capsys):
    monkeypatch.setattr(check, "check_bundle", lambda bundle: problems)
    assert run(["bundle", "check", "some"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert all(p.code in err and p.message in err for p in problems)
    assert run(["bundle", "check", "some", "--json"]) == code
    assert [row["code"] for row in json.loads(capsys.readouterr().out)] == [p.code for p in problems]


def test_check_of_what_is_no_bundle_exits_4(tmp_path, capsys):
    assert run(["bundle", "check", str(tmp_path / "nothing")]) == 4
    assert "MS-B101" in capsys.readouterr().err


def test_inspect_exits_4_when_predict_would_refuse(tmp_path, monkeypatch, capsys):
    for name in ("XDG_CONFIG_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "settings"))
    root = write_bundle(tmp_path / "blobs_segmentation")
    assert run(["bundle", "inspect", str(root)]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert all(
        word in err for word in ("safe: ", "import glob, import os", "model.safetensors (safetensors: numbers alone)")
    )
    assert run(["bundle", "inspect", str(root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "safe"
    path = root / "configs" / "inference.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | {"note": "$open('x')"}), encoding="utf-8")
    assert run(["bundle", "inspect", str(root)]) == 4
    err = capsys.readouterr().err
    assert all(word in err for word in ("needs trust: ", "note names open", f"medseg bundle trust {root}"))
    assert run(["bundle", "trust", str(root)]) == 0
    assert run(["bundle", "inspect", str(root)]) == 0
    assert "trusted: " in capsys.readouterr().err


def test_trust_remembers_a_bundle_as_it_is(tmp_path, monkeypatch, capsys):
    from medseg.bundle.trust import is_trusted

    for name in ("XDG_CONFIG_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "settings"))
    bundle = tmp_path / "bundle"
    (bundle / "configs").mkdir(parents=True)
    (bundle / "configs" / "metadata.json").write_text("{}", encoding="utf-8")
    assert not is_trusted(bundle)
    assert run(["bundle", "trust", str(bundle)]) == 0
    assert "1 files" in capsys.readouterr().err
    assert is_trusted(bundle)


def test_import_makes_a_bundle_of_an_nnunet_model(tmp_path, capsys):
    root = tmp_path / "trained"
    for fold in (0, 1, 2):
        (root / f"fold_{fold}").mkdir(parents=True)
        torch.save(checkpoint(network(), fold), root / f"fold_{fold}" / "checkpoint_best.pth")
    (root / "plans.json").write_text(json.dumps(PLANS))
    (root / "dataset.json").write_text(json.dumps(DATASET))
    out = str(tmp_path / "things_segmentation")
    assert run(["bundle", "import", str(root), "-o", out]) == 4
    assert "MS-B151" in capsys.readouterr().err
    chosen = ["--folds", "2,0", "--checkpoint", "best", "--json"]
    assert run(["bundle", "import", str(root), "-o", out, *chosen]) == 0
    said, shown = capsys.readouterr()
    found = json.loads(said)
    assert found["folds"] == ["2", "0"]
    assert found["structures"] == ["thing", "other"]
    assert "--uncertainty ensemble" in shown
    assert run(["bundle", "check", out]) == 0
    assert run(["bundle", "import", str(root), "-o", out, *chosen]) == 7
    assert "MS-B157" in capsys.readouterr().err
