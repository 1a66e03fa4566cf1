"""`--uncertainty` from files to files: maps on the scan's own grid, tables, views, resume, and refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from monai.transforms.compose import Compose
from torch import nn

import medseg
from medseg.bundle.load import Bundle, load_bundle
from medseg.bundle.uncertainty import Calibration, Declared, Flags
from medseg.errors import OutputError, UsageError
from medseg.inferers import SlidingWindowInferer
from medseg.labels import LabelTable
from medseg.readers.nifti import read_nifti
from medseg.transforms.preprocess import RestoreGridd, ToNetworkGridd
from medseg.workflows.predict import predict
from medseg.workflows.sampling import parse_method, sampler
from medseg.writers.nifti import write_nifti

if TYPE_CHECKING:
    from pathlib import Path


class Sided(nn.Module):
    """Class 1 where the image is bright on one half of the first axis, class 2 on the other; dropout before its head."""

    def __init__(self, bias: float = 0.0) -> None:
        super().__init__()
        self.drop = nn.Dropout3d(0.3)
        self.head = nn.Conv3d(6, 3, 1)
        with torch.no_grad():
            weight = torch.zeros(3, 6)
            weight[0, :2], weight[1, 2:4], weight[2, 4:] = 1.0, 2.0, 2.0
            self.head.weight.copy_(weight.reshape(3, 6, 1, 1, 1))
            self.head.bias.copy_(torch.tensor([bias, 0.0, 0.0]))

    def forward(self, x):
        ramp = torch.linspace(-1, 1, x.shape[2]).reshape(1, 1, -1, 1, 1)
        air, left, right = torch.full_like(x, 0.5), x * (ramp < 0), x * (ramp > 0)
        return self.head(self.drop(torch.cat([air, air, left, left, right, right], 1)))


TABLE = LabelTable.from_json(
    [{"value": 1, "name": "Left", "mirror": "Right"}, {"value": 2, "name": "Right", "mirror": "Left"}]
)


def bundle(tmp_path: Path, **changes) -> Bundle:
    network = Sided().eval()
    made = Bundle(
        name="sided",
        root=tmp_path,
        version="1.0.0",
        channels=("T1w",),
        labels=TABLE,
        domain=None,
        network=network,
        preprocessing=Compose([ToNetworkGridd("image", axcodes="RAS", spacing_mm=(1.0, 1.0, 1.0))]),
        inferer=SlidingWindowInferer((-1, -1, -1), output="labels", precision="fp32"),
        postprocessing=Compose([RestoreGridd("pred", ref="image")]),
        uncertainty=Declared(
            samples=6,
            mirrors=((0,),),
            calibration={"mc": Calibration(1.5, {"Left": (0.2, 0.5)})},
            flags=Flags(low_dice=0.99),
        ),
        members=lambda: (network, Sided(0.4).eval(), Sided(0.8).eval()),
    )
    return replace(made, **changes)


@pytest.fixture
def scan(tmp_path) -> Path:
    """Two bright blocks; axes turned, 2 mm slices."""
    rng = np.random.default_rng(0)
    array = rng.random((24, 20, 10)).astype(np.float32) * 0.2
    array[3:8, 5:12, 3:6] += 0.7
    array[16:21, 5:12, 3:6] += 0.7
    affine = np.array([[-1.0, 0, 0, 12], [0, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])
    write_nifti(tmp_path / "scan.nii.gz", array, affine)
    return tmp_path / "scan.nii.gz"


@pytest.mark.parametrize(
    ("method", "samples"), [("mc", 6), ("mc:4", 4), ("tta", 2), ("ensemble", 3), ("ensemble+tta", 6)]
)
def test_every_method_writes_maps_on_the_scans_own_grid(scan, tmp_path, method, samples):
    report = predict(scan, bundle(tmp_path), tmp_path / "out", uncertainty=method, samples=True)
    assert report.exit_code == 0, report.failures
    case = tmp_path / "out" / "scan"
    image = read_nifti(scan)
    for name in ("entropy", "mutual_information"):
        found = read_nifti(case / f"uncertainty_{name}.nii.gz")
        assert found.array.shape == image.array.shape
        assert np.array_equal(found.affine, image.affine)
        assert found.array.dtype == np.float32
        assert 0 <= found.array.min() <= found.array.max() <= 1
    record = json.loads((case / "record.json").read_text("utf-8"))
    assert record["uncertainty"]["method"] == method.split(":")[0]
    assert record["uncertainty"]["samples"] == samples
    assert set(record["outputs"]) >= {"uncertainty.ctbl", "scene.mrml", "report.html", "samples.seq.nrrd"}
    left, right = json.loads((case / "measurements.json").read_text("utf-8"))["structures"]
    assert 0 <= left["agreement"] <= 1
    assert left["volume_sd_ml"] >= 0
    if method.startswith("mc"):
        assert left["predicted_dice"] == pytest.approx(0.2 + 0.5 * left["agreement"], abs=1e-5)
        assert "low confidence" in left["flags"]
    assert right["predicted_dice"] == ""


def test_a_mirror_image_swaps_left_and_right_back(scan, tmp_path):
    """The network is its own mirror image, so both samples of tta agree, whatever axis runs from left to right."""
    made = bundle(tmp_path)
    found = medseg.predict(scan, made, uncertainty="tta")
    assert found.uncertainty["mutual_information"].array.max() < 1e-5
    affine = np.array([[0.0, 0, 2, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    assert sampler(parse_method("tta"), made, affine).mirrors[1].axes == (2,)
    assert sampler(parse_method("tta"), made, affine).mirrors[1].channels == (0, 2, 1)


def test_seeds_repeat_and_differ(scan, tmp_path):
    made = bundle(tmp_path)
    one, again, other = (medseg.predict(scan, made, uncertainty="mc:3", seed=s) for s in (1, 1, 2))
    a, b, c = (x.uncertainty["entropy"].array for x in (one, again, other))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    assert medseg.predict(scan, made).uncertainty == {}


def test_resuming_with_other_outputs_is_refused(scan, tmp_path):
    made = bundle(tmp_path)
    predict(scan, made, tmp_path / "out", uncertainty="mc:2")
    assert predict(scan, made, tmp_path / "out", uncertainty="mc:2", resume=True).cases[0].status == "finished before"
    with pytest.raises(OutputError, match=r"other outputs \(uncertainty=mc:2") as caught:
        predict(scan, made, tmp_path / "out", uncertainty="mc:3", resume=True)
    assert caught.value.code == "MS-O305"


def test_no_views_leaves_them_out(scan, tmp_path):
    predict(scan, bundle(tmp_path), tmp_path / "out", uncertainty="mc:2", views=False)
    there = {p.name for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert not there & {"image.nii.gz", "scene.mrml", "report.html", "index.html", "uncertainty.ctbl"}
    assert "uncertainty_entropy.nii.gz" in there


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ({"uncertainty": "dropout"}, "MS-U307"),
        ({"uncertainty": "mc:1"}, "MS-U147"),
        ({"uncertainty": "mc:256"}, "MS-U147"),
        ({"uncertainty": "tta"}, "MS-U149"),
        ({"uncertainty": "ensemble"}, "MS-U308"),
        ({"samples": True}, "MS-U302"),
        ({"mrb": True, "views": False}, "MS-U302"),
        ({"dicom": "fractional"}, "MS-U302"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_scan_is_read(tmp_path, words, code):
    plain = bundle(tmp_path, uncertainty=Declared(), members=lambda: (Sided(),))
    with pytest.raises(UsageError) as caught:
        predict(tmp_path / "absent.nii.gz", plain, tmp_path / "out", **words)
    assert caught.value.code == code
    assert not (tmp_path / "out").exists()


def test_a_bundle_on_disk_loads_its_members(toy_bundle, tmp_path):
    import shutil

    root = tmp_path / "several"
    shutil.copytree(toy_bundle, root)
    shutil.copy(root / "models" / "model.pt", root / "models" / "member_1.pt")
    path = root / "configs" / "inference.json"
    config = json.loads(path.read_text("utf-8"))
    config["uncertainty"] = {"ensemble": {"weights": ["models/member_1.pt"]}}
    path.write_text(json.dumps(config), "utf-8")
    loaded = load_bundle(root)
    assert len(loaded.members()) == 2
    assert loaded.members()[0] is loaded.network
    assert loaded.members() is loaded.members()
    assert "models/member_1.pt" in loaded.hashes
    (root / "models" / "member_1.pt").unlink()
    with pytest.raises(medseg.MedsegError) as caught:
        load_bundle(root).members()
    assert caught.value.code == "MS-B116"
