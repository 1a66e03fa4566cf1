"""`--engine`: the labels of torch from an exported file, said in the record; what it cannot do is refused first."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec

import numpy as np
import pytest

import medseg
from medseg.bundle.export_engine import on_engine
from medseg.bundle.load import load_bundle
from medseg.errors import BundleError, OutputError, UsageError
from medseg.workflows.engine import check_engine, describe_engine, engine_device
from medseg.workflows.export import export
from medseg.workflows.method import parse_method
from medseg.workflows.predict import predict

if absent := [name for name in ("onnx", "onnxscript", "onnxruntime", "openvino") if find_spec(name) is None]:
    pytest.skip(f"{absent[0]} absent (install medseg[export])", allow_module_level=True)


@pytest.fixture(scope="module")
def bundle(toy_bundle, tmp_path_factory):
    """The toy bundle, exported to both engines on a scan of blocks."""
    from medseg.writers.nifti import write_nifti

    folder = tmp_path_factory.mktemp("engine")
    root = shutil.copytree(toy_bundle, folder / "toy")
    write_nifti(folder / "scan.nii.gz", np.random.default_rng(0).random((20, 22, 18), np.float32), np.eye(4))
    report = export(root, data=folder / "scan.nii.gz", formats="onnx,openvino", threads=1)
    assert [row.format for row in report.exported] == ["onnx", "openvino"]
    return root


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_labels_are_torchs_and_the_record_says_the_engine(bundle, scan, truth, engine):
    result = medseg.predict(scan, bundle, engine=engine, threads=1)
    assert np.array_equal(result.segmentation.array, truth(scan.array))
    told = result.record["inference"]
    assert told["engine"] == engine
    assert told["engine_file"] == {"onnx": "model.onnx", "openvino": "model.xml"}[engine]
    assert told["engine_version"].startswith({"onnx": "ONNX Runtime", "openvino": "OpenVINO"}[engine])
    assert told["device"] == "cpu"
    assert result.record["parameters"]["produced"]["engine"] == engine


def test_torch_is_the_default_and_the_record_says_so(bundle, scan):
    record = medseg.predict(scan, bundle).record
    assert record["inference"]["engine"] == "torch"
    assert "engine" not in record["parameters"]["produced"]  # runs from before engines can be resumed


def test_a_folder_is_not_resumed_with_another_engine(bundle, scans, tmp_path):
    out = tmp_path / "out"
    assert predict(scans, bundle, out, engine="onnx", views=False).exit_code == 0
    record = json.loads((out / "a" / "record.json").read_text(encoding="utf-8"))
    assert record["inference"]["engine"] == "onnx"
    for other in ("torch", "openvino"):
        with pytest.raises(OutputError, match="engine=onnx") as refused:
            predict(scans, bundle, out, engine=other, views=False, resume=True)
        assert refused.value.code == "MS-O305"
    again = predict(scans, bundle, out, engine="onnx", views=False, resume=True)
    assert [case.status for case in again.cases] == ["finished before"] * 3


def test_a_plan_is_made_with_the_engine(bundle, scans, tmp_path):
    report = predict(scans, bundle, tmp_path / "out", engine="openvino", dry_run=True)
    assert report.exit_code == 0
    assert all(case.windows > 0 and case.seconds >= 0 for case in report.plan)
    assert not (tmp_path / "out").exists()


def test_mirror_images_take_an_engine(bundle, scan):
    path = bundle / "configs" / "inference.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    exact = {**config, "inferer": {**config["inferer"], "precision": "fp32"}, "uncertainty": {"mirrors": ["LR"]}}
    path.write_text(json.dumps(exact), encoding="utf-8")
    try:
        found = medseg.predict(scan, bundle, engine="onnx", uncertainty="tta")
        wanted = medseg.predict(scan, bundle, uncertainty="tta")
    finally:
        path.write_text(json.dumps(config), encoding="utf-8")
    np.testing.assert_allclose(found.uncertainty["entropy"].array, wanted.uncertainty["entropy"].array, atol=1e-5)


def test_dropout_needs_torch(bundle, scan):
    with pytest.raises(UsageError, match=r"--uncertainty mc:5 drops channels") as refused:
        medseg.predict(scan, bundle, engine="openvino", uncertainty="mc:5")
    assert refused.value.code == "MS-U312"
    assert "tta or ensemble with --engine openvino" in refused.value.mend
    check_engine("torch", "cuda", parse_method("mc:5"))
    check_engine("openvino", "cpu", parse_method("tta"))


def test_a_stale_export_is_refused_before_any_scan_is_read(bundle, scans, tmp_path):
    root = shutil.copytree(bundle, tmp_path / "toy")
    path = root / "models" / "model.onnx"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(BundleError, match="is not the file that was exported") as refused:
        predict(scans, root, tmp_path / "out", engine="onnx")
    assert refused.value.code == "MS-B123"
    assert refused.value.exit_code == 4
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("engine", "device", "code"),
    [("onnx", "cuda", "MS-U313"), ("openvino", "mps", "MS-U313"), ("trt", "auto", "MS-U311"), ("torch", "abacus", "MS-U301")],
)  # fmt: skip
def test_devices_and_names_that_cannot_be_are_refused(engine, device, code):
    with pytest.raises(UsageError) as refused:
        engine_device(engine, device)
    assert refused.value.code == code


def test_other_engines_run_on_the_cpu():
    assert engine_device("onnx", "auto") == engine_device("openvino", "cpu") == engine_device("torch", "cpu") == "cpu"


def test_a_network_is_described_by_its_engine(bundle):
    loaded = load_bundle(bundle)
    assert describe_engine(loaded.network) == {"engine": "torch"}
    assert describe_engine(on_engine(loaded, "onnx").network)["engine_file"] == "model.onnx"
