"""The record of exported files: a stale one is named with its mend, and never used."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from medseg.bundle.export_record import RECORD, add_exported, exported_file, fingerprint, read_exported
from medseg.errors import BundleError
from medseg.writers.atomic import sha256


@pytest.fixture
def network():
    return nn.Conv3d(1, 2, 3)


@pytest.fixture
def root(tmp_path, network):
    """A bundle with an exported file that fits its weights."""
    (tmp_path / "models").mkdir()
    for name in ("model.safetensors", "model.onnx", "model.xml", "model.bin"):
        (tmp_path / "models" / name).write_bytes(name.encode())
    for name, files in (("model.onnx", ["model.onnx"]), ("model.xml", ["model.xml", "model.bin"])):
        row = {
            "sha256": {f"models/{file}": sha256(tmp_path / "models" / file) for file in files},
            "weights": "models/model.safetensors",
            "weights_sha256": sha256(tmp_path / "models" / "model.safetensors"),
            "network_sha256": fingerprint(network),
        }
        add_exported(tmp_path, {f"models/{name}": row})
    return tmp_path


def find(root, network, engine="onnx", weights="model.safetensors"):
    return exported_file(root, root / "models" / weights, network, engine)


def test_rows_are_added_to_those_that_are_there(root, network):
    assert list(read_exported(root)) == ["models/model.onnx", "models/model.xml"]
    assert find(root, network) == root / "models" / "model.onnx"
    assert find(root, network, "openvino") == root / "models" / "model.xml"


def test_nothing_exported_names_the_command(root, network):
    (root / RECORD).unlink()
    with pytest.raises(BundleError, match=r"medseg bundle export .* --format onnx  ") as refused:
        find(root, network)
    assert refused.value.code == "MS-B122"
    assert read_exported(root) == {}


def test_a_member_that_is_not_exported_names_the_option(root, network):
    (root / "models" / "member_1.safetensors").write_bytes(b"1")
    with pytest.raises(BundleError, match=r"--format onnx --members") as refused:
        find(root, network, weights="member_1.safetensors")
    assert refused.value.code == "MS-B122"
    assert "models/member_1.onnx" in refused.value.what


def test_other_weights_make_it_stale(root, network):
    (root / "models" / "model.safetensors").write_bytes(b"trained again")
    with pytest.raises(BundleError, match=r"other weights than models/model\.safetensors") as refused:
        find(root, network)
    assert refused.value.code == "MS-B123"
    assert "medseg bundle export" in refused.value.mend


def test_weights_of_another_name_make_it_stale(root, network):
    (root / "models" / "model.pt").write_bytes(b"model.safetensors")
    with pytest.raises(BundleError, match=r"other weights than models/model\.pt"):
        find(root, network, weights="model.pt")


def test_another_network_makes_it_stale(root):
    with pytest.raises(BundleError, match=r"another network than inference\.json builds now") as refused:
        find(root, nn.Conv3d(1, 2, 3, padding=1))
    assert refused.value.code == "MS-B123"


@pytest.mark.parametrize("file", ["model.xml", "model.bin"])
def test_a_file_that_was_changed_or_is_half_gone_is_stale(root, network, file):
    (root / "models" / file).write_bytes(b"something else")
    with pytest.raises(BundleError, match="is not the file that was exported") as refused:
        find(root, network, "openvino")
    assert refused.value.code == "MS-B123"
    assert refused.value.file.endswith(file)


@pytest.mark.parametrize("text", ["", "[]", '{"schema": "other/1", "files": {}}', '{"schema": "medseg-exported/1"}'])
def test_a_broken_record_is_told_and_replaced(root, network, text):
    (root / RECORD).write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match="no record of exported files") as refused:
        find(root, network)
    assert refused.value.code == "MS-B123"
    add_exported(root, {"models/model.onnx": {}})
    assert json.loads((root / RECORD).read_text(encoding="utf-8"))["files"] == {"models/model.onnx": {}}


def test_the_fingerprint_is_of_the_layers_not_of_the_weights(network):
    before = fingerprint(network)
    torch.nn.init.zeros_(network.weight)
    assert fingerprint(network) == before
    assert fingerprint(nn.Conv3d(1, 2, 3, stride=2)) != before
