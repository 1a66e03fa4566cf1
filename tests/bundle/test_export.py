"""Exporting a bundle: files that give torch's labels lie in models/ with a record, others nowhere."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from medseg.bundle import export_check
from medseg.bundle.export import choose_formats, export_bundle
from medseg.bundle.export_engine import on_engine
from medseg.bundle.export_record import RECORD, read_exported
from medseg.bundle.load import load_bundle
from medseg.bundle.shipped import find_bundle
from medseg.errors import BundleError, MissingExtraError, UsageError
from medseg.inferers.engine import engine_of
from medseg.writers.atomic import sha256

if absent := [name for name in ("onnx", "onnxscript", "onnxruntime", "openvino") if find_spec(name) is None]:
    pytest.skip(f"{absent[0]} absent (install medseg[export])", allow_module_level=True)


@pytest.fixture(scope="module")
def patches():
    generator = torch.Generator().manual_seed(0)
    return [torch.rand((1, 16, 16, 16), generator=generator) for _ in range(2)]


@pytest.fixture(scope="module")
def exported(build, patches, tmp_path_factory):
    """A bundle with a member in its ensemble, exported to every format; and what was reported."""
    root = build.write_bundle(tmp_path_factory.mktemp("exported") / "own_segmentation", ours=True)
    member = {key: value * 0.5 for key, value in build.write_weights(root, seed=1).items()}
    build.save_file(member, root / "models" / "member_1.safetensors")
    build.write_weights(root)
    path = root / "configs" / "inference.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["uncertainty"] = {"ensemble": {"weights": ["models/member_1.safetensors"]}}
    path.write_text(json.dumps(config), encoding="utf-8")
    said = []
    found = export_bundle(load_bundle(root), patches, ("pt2", "onnx", "openvino"), members=True, hear=said.append)
    return root, found, said


def test_files_and_record_lie_in_models(exported):
    root, found, said = exported
    assert [row.files for row in found] == [
        (f"models/{stem}.pt2",) if kind == "pt2" else (f"models/{stem}.onnx",) if kind == "onnx"
        else (f"models/{stem}.xml", f"models/{stem}.bin")
        for stem in ("model", "member_1") for kind in ("pt2", "onnx", "openvino")
    ]  # fmt: skip
    rows = read_exported(root)
    assert set(rows) == {row.files[0] for row in found}
    for row in found:
        kept = rows[row.files[0]]
        assert kept["sha256"] == {file: sha256(root / file) for file in row.files}
        assert kept["takes"] == list(row.takes) == [None, 1, None, None, None]
        assert kept["weights_sha256"] == sha256(root / kept["weights"])
        assert kept["verified"]["labels_equal"] == row.checked.labels_equal >= 0.9999
        assert kept["verified"]["voxels"] == row.checked.voxels == 16**3 * (2 + 2 + 3 * 2)
        assert kept["verified"]["largest_difference"] < 1e-4
        assert json.dumps(row.to_json())
    assert rows["models/model.onnx"]["weights"] == "models/model.safetensors"
    assert rows["models/member_1.xml"]["weights"] == "models/member_1.safetensors"
    assert next(text for text in said if "member_1" in text) == "exporting models/member_1.safetensors"
    assert not [path for path in (root / "models").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_the_bundle_computes_with_its_exports(exported, patches, engine):
    root, _, _ = exported
    bundle = load_bundle(root)
    other = on_engine(bundle, engine, threads=1)
    assert engine_of(other.network).path == root / "models" / {"onnx": "model.onnx", "openvino": "model.xml"}[engine]
    assert len(other.members()) == len(bundle.members()) == 2
    assert other.members()[0] is other.network
    batch = torch.stack(patches)
    with torch.no_grad():
        for network, exact in zip(other.members(), bundle.members(), strict=True):
            torch.testing.assert_close(network(batch), exact(batch), rtol=1e-3, atol=1e-4)
        gap = (other.members()[0](batch) - other.members()[1](batch)).abs().max()
    assert gap > 0.01  # two networks, not one twice


def test_torch_is_the_bundle_itself(exported):
    bundle = load_bundle(exported[0])
    assert on_engine(bundle, "torch") is bundle


def test_an_unknown_engine_is_refused(exported):
    with pytest.raises(UsageError, match="tensorrt") as refused:
        on_engine(load_bundle(exported[0]), "tensorrt")
    assert refused.value.code == "MS-U311"


def test_a_bundle_that_was_not_exported_says_how(ours):
    with pytest.raises(BundleError, match="medseg bundle export") as refused:
        on_engine(load_bundle(ours), "onnx")
    assert refused.value.code == "MS-B122"


def test_what_departs_from_torch_is_not_kept(ours, patches, monkeypatch):
    monkeypatch.setattr(export_check, "MAX_DIFFERENCE", -1.0)
    with pytest.raises(BundleError, match="does not give torch's labels and is not kept") as refused:
        export_bundle(load_bundle(ours), patches, ("pt2",))
    assert refused.value.code == "MS-B125"
    assert refused.value.file == "model.pt2"
    assert sorted(path.name for path in (ours / "models").iterdir()) == ["model.pt", "model.safetensors"]


def test_exporting_again_mends_a_stale_file(build, ours, patches):
    export_bundle(load_bundle(ours), patches, ("onnx",))
    build.write_weights(ours, seed=5)
    with pytest.raises(BundleError) as refused:
        on_engine(load_bundle(ours), "onnx")
    assert refused.value.code == "MS-B123"
    export_bundle(load_bundle(ours), patches, ("onnx",))
    bundle = load_bundle(ours)
    with torch.no_grad():
        given, wanted = (b.network(patches[0][None]) for b in (on_engine(bundle, "onnx"), bundle))
    torch.testing.assert_close(given, wanted, rtol=1e-3, atol=1e-4)


def test_a_bundle_that_finds_instances_is_refused_kindly(build, tmp_path, patches):
    bundle = load_bundle(build.write_instance_bundle(tmp_path / "things_segmentation"))
    for attempt in (lambda: export_bundle(bundle, patches, ("pt2",)), lambda: on_engine(bundle, "onnx")):
        with pytest.raises(BundleError, match="it finds instances") as refused:
            attempt()
        assert refused.value.code == "MS-B127"
        assert "--engine torch" in refused.value.mend
    assert not (bundle.root / RECORD).exists()


def test_windows_of_one_size_are_of_no_use_without_a_window(ours, patches):
    class Placed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.position = torch.nn.Parameter(torch.rand(1, 1, 16, 16, 16))

        def forward(self, x):
            return torch.cat([x, x + self.position, -x], 1)

    bundle = replace(load_bundle(ours), network=Placed().eval())
    with pytest.raises(BundleError, match="windows of one size only") as refused:
        export_bundle(bundle, patches, ("pt2",), any_size=True)
    assert refused.value.code == "MS-B124"
    (row,) = export_bundle(bundle, patches, ("pt2",))
    assert row.takes == (None, 1, 16, 16, 16)


def test_every_shipped_bundle_without_instances_exports(patches):
    """By its network alone: torch.export follows it, and its size stays free."""
    from medseg.bundle.export_formats import to_graph

    bundle = load_bundle(find_bundle("hippocampus_mri_segmentation"))
    assert to_graph(bundle.network, patches[0], bundle.root).shape == (None, 1, None, None, None)


def test_formats_are_chosen_by_name_or_by_what_is_installed(monkeypatch):
    assert choose_formats(None) == (("pt2", "onnx", "openvino"), ())
    assert choose_formats("onnx, PT2,onnx") == (("onnx", "pt2"), ())
    from medseg.bundle import export

    monkeypatch.setattr(export, "_installed", lambda name: name == "pt2")
    assert choose_formats(None) == (("pt2",), ("onnx", "openvino"))


@pytest.mark.parametrize("text", ["", "torchscript", "onnx,trt"])
def test_an_unknown_format_is_refused(text):
    with pytest.raises(UsageError, match="pt2,onnx,openvino") as refused:
        choose_formats(text)
    assert refused.value.code == "MS-U315"


def test_a_format_by_name_whose_package_is_missing_names_the_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match=r"medseg\[export\]") as refused:
        choose_formats("onnx")
    assert refused.value.code == "MS-U310"
