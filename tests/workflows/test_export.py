"""`medseg bundle export`: which windows are compared, and what happens without any."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec

import numpy as np
import pytest

from medseg.bundle.load import load_bundle
from medseg.bundle.shipped import find_bundle
from medseg.errors import BundleError, InputError, UsageError
from medseg.volume import Volume
from medseg.workflows import demo
from medseg.workflows import export as exporting
from medseg.workflows.export import export


@pytest.fixture
def root(toy_bundle, tmp_path):
    return shutil.copytree(toy_bundle, tmp_path / "toy")


def test_a_bundle_without_data_of_its_own_asks_for_a_scan(root):
    with pytest.raises(UsageError, match="--data SCAN") as refused:
        export(root, formats="pt2")
    assert refused.value.code == "MS-U316"
    assert not (root / "models" / "exported.json").exists()


def test_torchs_own_format_needs_no_extra(root, scans):
    said = []
    report = export(root, data=scans, formats="pt2", hear=said.append)
    (row,) = report.exported
    assert row.files == ("models/model.pt2",)
    assert (root / "models" / "model.pt2").stat().st_size == pytest.approx(row.megabytes * 1e6)
    # 2 of 3 scans, 3 windows of 16^3 each; two at once, and twice as long along each axis.
    assert row.checked.voxels == 16**3 * (2 * 3 + 2 + 3 * 2)
    assert row.checked.labels_equal == 1.0
    assert row.checked.foreground > 0
    assert said == ["exporting models/model.pt", "checking model.pt2 against torch"]
    told = json.loads(json.dumps(report.to_json()))
    assert (told["bundle"], told["exported"][0]["format"], told["left_out"]) == (str(root), "pt2", [])


def test_windows_with_most_contrast_are_compared(root):
    array = np.zeros((16, 16, 64), np.float32)
    array[:, :, 50:] = np.random.default_rng(0).random((16, 16, 14))
    array[..., 0] = 0.1
    patches = exporting._patches(Volume(array, np.eye(4)), load_bundle(root))
    assert [tuple(patch.shape) for patch in patches] == [(1, 16, 16, 16)] * exporting.PATCHES
    spread = [float(patch.std()) for patch in patches]
    assert spread == sorted(spread, reverse=True)
    assert spread[0] > 0.2


@pytest.mark.skipif(find_spec("nilearn") is None, reason="nilearn absent (install medseg[demo])")
def test_the_bundle_of_the_demo_brings_its_brain():
    bundle = load_bundle(find_bundle(demo.BUNDLE))
    volumes = list(exporting._volumes(bundle, None))
    assert len(volumes) == 2
    patches = exporting._patches(volumes[0], bundle)
    assert {tuple(patch.shape) for patch in patches} == {(1, 40, 56, 40)}


def test_a_folder_without_scans_is_refused(root, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError):
        export(root, data=tmp_path / "empty", formats="pt2")


def test_trust_in_a_bundle_is_told_to_be_withdrawn(root, scans, tmp_path, monkeypatch):
    from medseg.bundle.trust import is_trusted, trust_bundle

    for name in ("XDG_CONFIG_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "settings"))
    trust_bundle(root)
    assert export(root, data=scans, formats="pt2").trusted
    with pytest.raises(BundleError, match=r"models/exported.json, models/model.pt2") as refused:
        is_trusted(root)
    assert refused.value.code == "MS-B142"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("nilearn") is None, reason="nilearn absent (install medseg[demo])")
@pytest.mark.skipif(find_spec("openvino") is None, reason="openvino absent (install medseg[export])")
@pytest.mark.skipif(find_spec("onnxscript") is None, reason="onnxscript absent (install medseg[export])")
def test_the_shipped_bundle_gives_the_same_labels_on_every_engine(tmp_path):
    """End to end on a brain: exported, checked, and predicted with each engine."""
    import medseg

    root = shutil.copytree(find_bundle(demo.BUNDLE), tmp_path / demo.BUNDLE)
    report = export(root)
    assert [row.format for row in report.exported] == ["pt2", "onnx", "openvino"]
    assert all(row.takes == (None, 1, None, None, None) for row in report.exported)
    assert all(row.checked.foreground > 10_000 and row.checked.labels_equal > 0.9999 for row in report.exported)
    scan = next(exporting._volumes(load_bundle(root), None))
    wanted = medseg.predict(scan, root).segmentation.array
    assert (wanted > 0).sum() > 2000
    for engine in ("onnx", "openvino"):
        given = medseg.predict(scan, root, engine=engine).segmentation.array
        # torch may compute in bf16 where that is native
        assert (given != wanted).sum() <= 0.02 * (wanted > 0).sum()
