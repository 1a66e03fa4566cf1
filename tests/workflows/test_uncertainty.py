"""`--uncertainty` from files to files: maps on the scan's own grid, tables, views, resume, and refusals."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from monai.inferers.inferer import SliceInferer
from monai.inferers.inferer import SlidingWindowInferer as MonaiSlidingWindowInferer
from monai.transforms.compose import Compose
from monai.transforms.croppad.dictionary import SpatialPadd
from monai.transforms.post.dictionary import Activationsd, AsDiscreted, Invertd
from monai.transforms.spatial.dictionary import Flipd, Spacingd
from monai.transforms.utility.dictionary import Lambdad
from torch import nn

import medseg
from medseg.bundle.load import Bundle, load_bundle
from medseg.bundle.uncertainty import Calibration, Declared, Flags
from medseg.errors import BundleError, OutputError, UsageError
from medseg.inferers import SlidingWindowInferer
from medseg.inferers.mirrored import Mirror, Mirrored
from medseg.labels import LabelTable
from medseg.readers.nifti import read_nifti
from medseg.transforms.preprocess import RestoreGridd, ToNetworkGridd
from medseg.workflows import layout
from medseg.workflows.method import parse_method
from medseg.workflows.predict import predict
from medseg.workflows.sampling import check_method, sampler, walker
from medseg.workflows.segment import segment
from medseg.writers.atomic import move
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


def mirrored(made: Bundle, affine: np.ndarray) -> tuple[Mirror, ...]:
    found = sampler(parse_method("tta"), made, affine)
    assert isinstance(found, Mirrored)
    return found.mirrors


def test_a_mirror_image_swaps_left_and_right_back(scan, tmp_path):
    """The network is its own mirror image, so both samples of tta agree, whatever axis runs from left to right."""
    made = bundle(tmp_path)
    found = medseg.predict(scan, made, uncertainty="tta")
    assert found.uncertainty["mutual_information"].array.max() < 1e-5
    affine = np.array([[0.0, 0, 2, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    assert mirrored(made, affine)[1].axes == (2,)
    assert mirrored(made, affine)[1].channels == (0, 2, 1)


@pytest.mark.parametrize("turn_deg", [0, 44, 46, 50, 135])
def test_an_oblique_scan_is_mirrored_along_the_axis_nearest_to_left_right(tmp_path, turn_deg):
    """Short-axis cardiac images lie turned about two axes: two array axes may be nearest to one patient axis."""
    c, s = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    about_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    turned = np.eye(4)
    turned[:3, :3] = about_z @ np.array([[1.0, 0, 0], [0, 0.6, -0.8], [0, 0.8, 0.6]])
    (axis,) = mirrored(bundle(tmp_path), turned)[1].axes
    cosines = np.abs(turned[0, :3])
    assert cosines[axis] > 0.5
    made = bundle(tmp_path, uncertainty=Declared(mirrors=((0,), (1,), (2,))))
    assert sorted(m.axes[0] for m in mirrored(made, turned)[1:]) == [0, 1, 2]


GAPS = LabelTable.from_json(
    [{"value": 5, "name": "Left", "mirror": "Right"}, {"value": 700, "name": "Right", "mirror": "Left"}]
)


def test_labels_with_gaps_that_postprocessing_makes(scan, tmp_path):
    """The same network, whose classes 1 and 2 become 5 and 700: every number stays, and mirrors swap them."""
    plain = bundle(tmp_path)
    values = Lambdad("pred", lambda x: torch.where(x == 2, 700, torch.where(x == 1, 5, 0)).to(torch.int32))
    gaps = replace(plain, labels=GAPS, postprocessing=Compose([*plain.postprocessing.transforms, values]))
    for method in ("mc:4", "tta"):
        for made, out in ((plain, "plain"), (gaps, "gaps")):
            predict(scan, made, tmp_path / method / out, uncertainty=method, samples=True)
        a, b = (
            json.loads((tmp_path / method / out / "scan" / "measurements.json").read_text("utf-8"))["structures"]
            for out in ("plain", "gaps")
        )
        drop = {"value"}
        assert [{k: v for k, v in row.items() if k not in drop} for row in a] == [
            {k: v for k, v in row.items() if k not in drop} for row in b
        ]
        assert b[1]["value"] == 700
        assert 0 < b[1]["agreement"] <= 1
    found = medseg.predict(scan, gaps, uncertainty="tta")
    assert found.uncertainty["mutual_information"].array.max() < 1e-5


def test_gaps_of_the_network_itself_and_more_classes_than_labels(scan, tmp_path):
    """Argmax gives values 1 and 3 of five classes: class 3 is label 3."""

    class Spread(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Sided().eval()

        def forward(self, x):
            y = self.inner(x)
            never = torch.full_like(y[:, :1], -20.0)
            return torch.cat([y[:, :2], never, y[:, 2:], never], 1)

    table = LabelTable.from_json(
        [{"value": 1, "name": "Left", "mirror": "Right"}, {"value": 3, "name": "Right", "mirror": "Left"}]
    )
    nets = Spread().eval(), Spread().eval()
    one = bundle(tmp_path, members=lambda: (nets[0].inner, nets[1].inner))
    five = bundle(tmp_path, network=nets[0], members=lambda: nets, labels=table)
    for method in ("mc:4", "tta", "ensemble+tta"):
        a, b = (medseg.predict(scan, made, uncertainty=method).measurements for made in (one, five))
        for x, y in zip(a, b, strict=True):
            assert x.doubt is not None
            assert y.doubt is not None
            assert y.doubt.agreement == pytest.approx(x.doubt.agreement, abs=1e-6)
            assert y.doubt.volume_sd_ml == pytest.approx(x.doubt.volume_sd_ml, abs=1e-6)


def test_a_region_of_classes_counts_the_votes_of_all_of_them(scan, tmp_path):
    table = LabelTable.from_json(
        [{"value": 1, "name": "Both", "region": [1, 2]}, {"value": 2, "name": "Right"}],
    )
    made = bundle(tmp_path, labels=table)
    image = read_nifti(scan)
    fine = bundle(tmp_path, labels=table, preprocessing=Compose([ToNetworkGridd("image", axcodes="RAS")]))
    for made in (fine, replace(fine, inferer=SlidingWindowInferer((16, 16, 8), 0.25, output="labels"))):
        told = segment(image, made, method=parse_method("mc:5", keep=True)).uncertainty
        assert told is not None
        assert told.kept is not None
        for name, masks in (("Both", told.kept > 0), ("Right", told.kept == 2)):
            doubt = told.doubt[name]
            sizes = masks.sum(axis=(1, 2, 3))
            assert doubt.volume_sd_ml == pytest.approx(np.std(sizes * image.grid.voxel_ml, ddof=1), rel=1e-6)
            pairs = list(itertools.combinations(range(5), 2))
            shared = sum(2 * (masks[a] & masks[b]).sum() for a, b in pairs)
            assert doubt.agreement == pytest.approx(shared / sum(sizes[a] + sizes[b] for a, b in pairs), rel=1e-6)


def test_sigmoid_channels_behind_medsegs_own_inferer_are_regions(scan, tmp_path):
    """Logits from the inferer, sigmoid and threshold in the postprocessing: each channel has its own probability."""

    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Sided().eval()

        def forward(self, x):
            y = self.inner(x)
            return y[:, 1:2] - y[:, :1]

    after = [Activationsd("pred", sigmoid=True), AsDiscreted("pred", threshold=0.5), RestoreGridd("pred", ref="image")]
    made = bundle(
        tmp_path,
        network=One().eval(),
        labels=LabelTable.from_json([{"value": 1, "name": "Left"}]),
        inferer=SlidingWindowInferer((-1, -1, -1), precision="fp32"),
        postprocessing=Compose(after),
        uncertainty=Declared(samples=5),
    )
    assert walker(made).regions == (1,)
    assert made.inferer.regions is None
    found = medseg.predict(scan, made, uncertainty="mc")
    entropy = found.uncertainty["entropy"].array
    assert 0.05 < entropy.max() <= 1
    (row,) = found.table()
    assert 0 < float(str(row["agreement"])) <= 1
    assert medseg.predict(scan, made).segmentation.array.any()


@pytest.mark.parametrize("after", [[], [Activationsd("pred", softmax=True)]])
def test_a_monai_bundle_that_inverts_its_own_preprocessing(scan, tmp_path, after):
    """Spacing, turned axes and a crop, undone by Invertd: as its first step too, the maps lie where the labels do."""
    before = Compose([Spacingd("image", (1.5, 1.5, 1.5)), Flipd("image", 1), SpatialPadd("image", (24, 24, 16))])
    back = Invertd("pred", before, orig_keys="image", nearest_interp=False, to_tensor=True)
    made = bundle(
        tmp_path,
        preprocessing=before,
        inferer=MonaiSlidingWindowInferer((16, 16, 16), overlap=0.25),
        postprocessing=Compose([*after, back, AsDiscreted("pred", argmax=True)]),
    )
    report = predict(scan, made, tmp_path / "out", uncertainty="tta")
    assert report.exit_code == 0, report.failures
    labels = read_nifti(tmp_path / "out" / "scan" / "segmentation.nii.gz").array
    plain = medseg.predict(scan, made).segmentation.array
    assert (labels != plain).mean() < 0.05
    assert plain.any()
    entropy = read_nifti(tmp_path / "out" / "scan" / "uncertainty_entropy.nii.gz").array
    assert entropy[labels > 0].mean() != pytest.approx(entropy[labels == 0].mean(), rel=0.1)


def test_slice_inferers_are_refused(tmp_path):
    made = bundle(tmp_path, inferer=SliceInferer(roi_size=(16, 16), spatial_dim=2))
    with pytest.raises(BundleError) as caught:
        check_method(parse_method("mc"), made)
    assert caught.value.code == "MS-O323"


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


def test_a_seed_that_nothing_draws_from_does_not_keep_from_resuming(scan, tmp_path):
    made = bundle(tmp_path)
    predict(scan, made, tmp_path / "out", uncertainty="tta", seed=1)
    assert predict(scan, made, tmp_path / "out", uncertainty="tta", resume=True).cases[0].status == "finished before"


@pytest.mark.parametrize("fails", [0, 1, 5, 9])
def test_a_run_that_dies_while_it_publishes_is_done_again(scan, tmp_path, monkeypatch, fails):
    """Killed between two renames over an older result: the resumed run ends with exactly the files of an undisturbed one."""
    made, out = bundle(tmp_path), tmp_path / "out"
    predict(scan, made, tmp_path / "other", uncertainty="mc:3")
    predict(scan, made, out, uncertainty="mc:2", samples=True)
    moved = []

    def dies(source: Path, target: Path) -> None:
        if len(moved) == fails:
            raise KeyboardInterrupt
        moved.append(target)
        move(source, target)

    monkeypatch.setattr(layout, "move", dies)
    with pytest.raises(KeyboardInterrupt):
        predict(scan, made, out, uncertainty="mc:3", overwrite=True)
    monkeypatch.undo()
    report = predict(scan, made, out, uncertainty="mc:3", resume=True)
    assert report.cases[0].status == "done"
    assert files_in(out) == files_in(tmp_path / "other")
    for name in ("uncertainty_entropy.nii.gz", "segmentation.nii.gz", "measurements.csv"):
        assert (out / "scan" / name).read_bytes() == (tmp_path / "other" / "scan" / name).read_bytes()


def files_in(out: Path) -> set[str]:
    return {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}


def test_what_is_done_again_without_maps_views_or_folders_leaves_nothing_stale(scan, tmp_path):
    made, out = bundle(tmp_path), tmp_path / "out"
    predict(scan, made, out, uncertainty="mc:2", samples=True, mrb=True)
    assert files_in(out) >= {"index.html", "scan/samples.seq.nrrd", "scan/scene.mrb", "scan/uncertainty.ctbl"}
    predict(scan, made, out, overwrite=True)
    assert not [name for name in files_in(out) if "uncertainty" in name or "samples" in name or "mrb" in name]
    predict(scan, made, out, overwrite=True, views=False)
    assert "index.html" not in files_in(out)
    (out / "index.html").write_text("my own", "utf-8")
    predict(scan, made, out, overwrite=True, views=False)
    assert (out / "index.html").read_text("utf-8") == "my own"
    (out / "scan" / "notes.txt").write_text("look at slice 4", "utf-8")
    predict(scan, made, out, overwrite=True, flat=True, uncertainty="mc:2")
    found = files_in(out)
    assert {name for name in found if name.startswith("scan/")} == {"scan/notes.txt"}
    assert {"scan.nii.gz", "details/scan/report.html", "details/scan/uncertainty_entropy.nii.gz"} <= found
    assert 'href="details/scan/report.html"' in (out / "index.html").read_text("utf-8")
    predict(scan, made, out, overwrite=True)
    found = files_in(out)
    assert not [name for name in found if name.startswith("details") or name == "scan.nii.gz"]
    assert {"scan/segmentation.nii.gz", "scan/notes.txt", "scan/report.html"} <= found


def test_the_other_layout_keeps_what_somebody_changed(scan, tmp_path):
    made, out = bundle(tmp_path), tmp_path / "out"
    predict(scan, made, out)
    edited = out / "scan" / "segmentation.nii.gz"
    image = read_nifti(edited)
    write_nifti(edited, np.zeros_like(image.array), image.affine)
    predict(scan, made, out, overwrite=True, flat=True)
    assert {name for name in files_in(out) if name.startswith("scan/")} == {"scan/segmentation.nii.gz"}
    assert not read_nifti(edited).array.any()


def test_no_views_leaves_them_out(scan, tmp_path):
    predict(scan, bundle(tmp_path), tmp_path / "out", uncertainty="mc:2", views=False)
    there = {p.name for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert not there & {"image.nii.gz", "scene.mrml", "report.html", "index.html", "uncertainty.ctbl"}
    assert "uncertainty_entropy.nii.gz" in there


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ({"uncertainty": "dropout"}, "MS-U307"),
        ({"samples": True}, "MS-U302"),
        ({"mrb": True, "views": False}, "MS-U302"),
        ({"dicom": "fractional"}, "MS-U302"),
        ({"engine": "tensorrt"}, "MS-U311"),
        ({"engine": "onnx", "uncertainty": "mc:5"}, "MS-U312"),
        ({"engine": "onnx", "device": "cuda"}, "MS-U313"),
    ],
)
def test_wrong_words_are_told_before_anything_is_looked_for(tmp_path, words, code):
    with pytest.raises(UsageError) as caught:
        predict(tmp_path / "absent.nii.gz", tmp_path / "no-bundle", tmp_path / "out", **words)
    assert caught.value.code == code
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "code"),
    [("mc:1", "MS-U147"), ("mc:256", "MS-U147"), ("tta", "MS-U149"), ("ensemble", "MS-U308")],
)
def test_what_the_bundle_cannot_do_is_said_before_any_scan_is_read(scan, tmp_path, words, code):
    plain = bundle(tmp_path, uncertainty=Declared(), members=lambda: (Sided(),))
    with pytest.raises(UsageError) as caught:
        predict(scan, plain, tmp_path / "out", uncertainty=words)
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
