"""What `inspect_bundle` says of sound, hostile, trusted and changed bundles, with nothing of them run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from medseg.bundle.trust import trust_bundle
from medseg.bundle.verdict import form_of, inspect_bundle
from medseg.errors import BundleError


def test_a_sound_bundle_is_safe(zoo):
    found = inspect_bundle(zoo)
    assert (found.word, found.usable, dict(found.refused)) == ("safe", True, {})
    assert found.targets["UNet"] == 2
    assert found.imports == ("import glob", "import os")
    assert found.expressions > 5
    assert found.weights["models/model.safetensors"] == "safetensors: numbers alone"
    assert found.weights["models/model.pt"] == "a pickle of torch, read with weights_only alone"
    assert set(found.hashes) == {p.relative_to(zoo).as_posix() for p in zoo.rglob("*") if p.is_file()}
    assert found.to_json()["verdict"] == "safe"


def test_code_needs_trust_and_is_not_run(zoo, edit):
    sentinel = zoo / "sentinel"
    (zoo / "scripts").mkdir()
    (zoo / "scripts" / "__init__.py").write_text(f"open({str(sentinel)!r}, 'w')", encoding="utf-8")

    def change(config):
        config["network_def"]["_target_"] = "scripts.Net"
        config["note"] = f"$open({str(sentinel)!r}, 'w')"

    edit(zoo, "inference", change)
    before = sys.modules.get("scripts")  # tests of medseg's own scripts know such a package
    found = inspect_bundle(zoo)
    assert (found.word, found.usable) == ("needs trust", False)
    assert found.scripts == ("scripts/__init__.py",)
    (rows,) = found.refused.values()
    assert any("names 'scripts.Net'" in row for row in rows)
    assert any(row.startswith("note ") for row in rows)
    assert not sentinel.exists()
    assert sys.modules.get("scripts") is before


def test_a_train_config_that_needs_trust_does_not_hinder_prediction(zoo, edit):
    edit(zoo, "train", lambda c: c.update(note="$eval('1')"))
    found = inspect_bundle(zoo)
    assert (found.word, list(found.refused)) == ("safe", ["configs/train"])
    assert "to train it, it must be trusted" in found.why


def test_trusted_and_then_changed_by_one_bit(zoo, edit):
    edit(zoo, "inference", lambda c: c.update(note="$eval('1')"))
    trust_bundle(zoo)
    assert inspect_bundle(zoo).word == "trusted"
    weights = zoo / "models" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    weights.write_bytes(data)
    found = inspect_bundle(zoo)
    assert (found.word, found.usable) == ("changed", False)
    assert "models/model.safetensors" in found.why


def test_macros_that_lead_out_or_nowhere(zoo, edit):
    for macro in ("%/etc/passwd#x", "%../other.json#x", "%configs/metadata.json#nothing", "%nowhere#at#all"):
        edit(zoo, "inference", lambda c, macro=macro: c.update(note=macro))
        assert inspect_bundle(zoo).word == "needs trust", macro


def test_forms_of_weights(tmp_path):
    torch.jit.script(nn.Identity()).save(str(tmp_path / "disguised.pt"))
    torch.save({}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert form_of(tmp_path / "disguised.pt").startswith("TorchScript")
    assert form_of(tmp_path / "old.pt").startswith("an old pickle")
    assert form_of(Path("model.ts")).startswith("TorchScript")
    assert form_of(Path("model.onnx")).startswith("ONNX")


def test_no_bundle(tmp_path):
    with pytest.raises(BundleError, match="MS-B102"):
        inspect_bundle(tmp_path)
