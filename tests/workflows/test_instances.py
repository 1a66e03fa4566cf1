from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.transforms import Compose, Lambdad

from medseg.errors import BundleError
from medseg.geometry import Grid, reorientation
from medseg.inferers.instances.found import Instances, MaskCrop
from medseg.inferers.instances.paste import label_map
from medseg.labels import LabelTable
from medseg.networks.detections import Detections
from medseg.readers.nifti import read_nifti
from medseg.readers.nrrd import read_nrrd
from medseg.readers.options import ReadOptions
from medseg.volume import Volume
from medseg.workflows.instance_row import HIDDEN
from medseg.workflows.instances import as_ids, place
from medseg.workflows.measure import EDGE
from medseg.workflows.predict import predict
from medseg.workflows.result import predict as predict_one
from medseg.workflows.segment import segment
from medseg.writers.atomic import sha256
from medseg.writers.nifti import write_nifti
from tests.workflows.instance_network import CLASSES, Pieces, finding

if TYPE_CHECKING:
    from pathlib import Path

BRIGHT = {"box_mm": {"R-L": [14.5, 19.5], "A-P": [-2.75, 4.75], "S-I": [16.0, 28.0]}, "centroid_mm": [17.0, 1.0, 22.0]}


def found_of(boxes, scores, classes) -> Instances:
    """Instances that fill their boxes of whole voxels."""
    masks = [MaskCrop(tuple(b[:3]), torch.ones([h - a for a, h in zip(b[:3], b[3:], strict=True)])) for b in boxes]
    edges = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 6)
    return Instances(edges, torch.tensor(scores).float(), torch.tensor(classes).long(), masks)


def placed(found: Instances, grid: Grid, classes=CLASSES):
    ids = label_map(found, grid.shape).ids
    return place(Volume(ids, grid.affine), found, grid, classes)


def test_every_number_by_hand(scan, toy):
    made = segment(scan, finding(toy)).instances
    assert sorted((r.id, r.structure, r.value, r.voxels) for r in made.rows if r.voxels > 1) == [
        (next(r.id for r in made.rows if r.voxels == 150), "bright", 2, 150),
        (3, "dim", 1, 125),
    ]
    assert [round(r.score, 3) for r in made.rows] == [1.0, 1.0, 0.5]
    told = next(r for r in made.rows if r.voxels == 150).to_json()
    assert told.items() >= BRIGHT.items()
    assert told["volume_ml"] == pytest.approx(0.45)
    assert told["cut_by_border"] is False
    assert "rare" not in told
    dim = made.rows[2]
    assert dim.centroid_mm == pytest.approx((24, -11, 17))
    assert made.ids.array[6, 6, 6] == 3
    assert made.class_map().array[6, 6, 6] == 1
    assert made.class_map().labels is CLASSES


CODES = [a + b + c for a in "RL" for b in "AP" for c in "SI"]
ORDERS = ["".join(code[i] for i in order) for code in CODES for order in [(0, 1, 2), (1, 2, 0), (2, 1, 0)]]


@given(st.sampled_from(ORDERS))
def test_millimetres_do_not_depend_on_the_axis_order(axcodes):
    grid = Grid((8, 9, 7), np.array([[-1.0, 0, 0, 30], [0, 1.5, 0, -20], [0, 0, 2, 5], [0, 0, 0, 1]]))
    found = found_of([(1, 2, 0, 4, 5, 3), (5, 5, 5, 6, 9, 7)], [0.9, 0.6], [1, 0])
    want = placed(found, grid)
    turn = reorientation(grid, axcodes)
    there = place(Volume(turn.apply(want.ids.array), turn.apply_grid(grid).affine), found, grid, CLASSES)
    assert [r.to_json() for r in there.rows] == [r.to_json() for r in want.rows]


@given(st.integers(0, 2**32 - 1), st.integers(1, 400))
def test_against_a_plain_loop_over_voxels(seed, count):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, count + 1, (5, 6, 7)).astype(np.uint16) * rng.integers(0, 2, (5, 6, 7), np.uint16)
    affine = np.eye(4)
    affine[:3, :3] = rng.normal(size=(3, 3)) + 3 * np.eye(3)  # oblique
    affine[:3, 3] = rng.normal(size=3)
    found = found_of([(0, 0, 0, 1, 1, 1)] * count, [0.5] * count, rng.integers(0, 3, count).tolist())
    made = place(Volume(ids, affine), found, Grid((5, 6, 7), affine), CLASSES)
    assert [r.id for r in made.rows] == list(range(1, count + 1))
    assert np.array_equal(made.class_map().array, np.array([0, *(r.value for r in made.rows)])[ids])
    corners = np.array(np.meshgrid(*[(-0.5, 0.5)] * 3)).reshape(3, 8).T
    for row in (r for r in made.rows if r.voxels):
        voxels = np.argwhere(ids == row.id)
        assert row.voxels == len(voxels)
        np.testing.assert_allclose(row.centroid_mm, (voxels @ affine[:3, :3].T + affine[:3, 3]).mean(0), atol=1e-9)
        box = np.stack([voxels.min(0), voxels.max(0)])
        ends = np.array([[box[a, 0], box[b, 1], box[c, 2]] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
        ends = (ends[:, None] + corners).reshape(-1, 3) @ affine[:3, :3].T + affine[:3, 3]
        np.testing.assert_allclose(row.box_mm, [*ends.min(0), *ends.max(0)], atol=1e-5)
        assert row.cut_by_border == bool((box[0] == 0).any() or (box[1] == np.array([4, 5, 6])).any())
    hidden = [r for r in made.rows if not r.voxels]
    assert all(HIDDEN in r.flags and r.volume_ml == 0 and not r.cut_by_border for r in hidden)


def test_what_the_images_grid_does_not_show_stays_in_the_list():
    grid = Grid((6, 6, 6), np.diag([2.0, 2, 2, 1]))
    found = found_of([(1, 1, 1, 4, 4, 4), (2, 2, 2, 3, 3, 3)], [0.9, 0.8], [0, 1])
    made = placed(found, grid)  # the second has no voxel where it is as likely as the first
    hidden = made.rows[1]
    assert hidden.voxels == 0
    assert hidden.flags == (HIDDEN,)
    assert hidden.box_mm == pytest.approx((3, 3, 3, 5, 5, 5))
    assert hidden.centroid_mm == pytest.approx((4, 4, 4))
    assert made.notes == (f"1 of 2 instances have {HIDDEN}: they stand in instances.json alone",)


def test_nothing_found(scan, toy):
    made = segment(scan, finding(toy, Pieces(2.0))).instances
    assert made.rows == ()
    assert not made.ids.array.any()
    assert made.class_map().array.dtype == np.uint8
    assert made.to_json()["instances"] == []


def test_ids_take_as_many_bytes_as_they_need():
    assert as_ids(np.array([0, 65535])).dtype == np.uint16
    assert as_ids(np.array([0, 65536])).dtype == np.uint32


def test_a_class_without_a_label_is_told_by_its_value():
    made = placed(found_of([(1, 1, 1, 2, 2, 2)], [0.9], [4]), Grid((3, 3, 3), np.eye(4)), LabelTable(()))
    assert (made.rows[0].structure, made.rows[0].value) == ("label 5", 5)
    assert [label.name for label in made.shown().labels] == ["label 5 1"]


class Many(Pieces):
    """1000 instances of 2 x 2 x 2 voxels that fill the image and touch each other."""

    def found(self, image):
        del image
        corners = [(i, j, k) for i in range(0, 20, 2) for j in range(0, 20, 2) for k in range(0, 20, 2)]
        edges = torch.tensor([[*c, *(x + 2 for x in c)] for c in corners], dtype=torch.float32)
        scores = torch.linspace(0.99, 0.5, len(corners))
        return Detections(edges, scores, (scores < 0.7).long(), torch.ones(len(corners), 2, 2, 2))


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_a_thousand_ids_come_back_unmixed(toy, fold):
    """Through the bundle's RestoreGridd: voxel for voxel, and by the vote of neighbours where the grid is finer."""
    affine = np.diag([-1 / fold, 1 / fold, 1 / fold, 1.0])
    image = np.zeros((20 * fold,) * 3, np.float32)
    image[0, 0, 0] = 1
    bundle = finding(toy, Many())
    steps = list(bundle.preprocessing.transforms)
    steps[0] = type(steps[0])(keys="image", axcodes="RAS", spacing_mm=1.0)
    made = segment(Volume(image, affine), replace(bundle, preprocessing=Compose(steps))).instances
    ids = np.arange(1, 1001).reshape(10, 10, 10)
    for axis in range(3):
        ids = ids.repeat(2 * fold, axis)
    assert made.ids.array.dtype == np.uint16
    assert np.array_equal(made.ids.array[::-1], ids)  # the network sees RAS
    assert [row.voxels for row in made.rows] == [(2 * fold) ** 3] * 1000
    assert np.array_equal(made.class_map().array, np.where(made.ids.array <= 592, 1, 2))


def test_a_postprocessing_that_changes_ids_is_refused(scan, toy):
    bundle = finding(toy)
    steps = [*bundle.postprocessing.transforms, Lambdad(keys="pred", func=lambda x: x * 7)]
    with pytest.raises(BundleError, match=r"MS-O324.*the id 21, and 3 instances were found"):
        segment(scan, replace(bundle, postprocessing=Compose(steps)))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


CASE = {"segmentation.nii.gz", "measurements.csv", "measurements.json", "preview.png", "record.json"}
CASE |= {"image.nii.gz", "segmentation.seg.nrrd", "scene.mrml", "report.html", "instances.nii.gz", "instances.json"}


def test_the_files_of_a_run(scans, toy, tmp_path):
    out = tmp_path / "out"
    assert predict(scans, finding(toy), out).exit_code == 0
    assert {p.name for p in (out / "a").iterdir()} == CASE
    image, ids, labels = (nibabel.load(p) for p in (scans / "a.nii.gz", out / "a/instances.nii.gz", out / "a/segmentation.nii.gz"))  # fmt: skip
    assert np.array_equal(ids.affine, image.affine)
    assert ids.get_data_dtype() == np.uint16
    told = json.loads((out / "a/instances.json").read_text(encoding="utf-8"))
    assert told["schema"] == "medseg-instances/1"
    value_of = {0: 0, **{row["id"]: row["value"] for row in told["instances"]}}
    array = np.asarray(ids.dataobj)
    assert np.array_equal(np.vectorize(value_of.get)(array), np.asarray(labels.dataobj))
    assert np.array_equal(np.asarray(labels.dataobj), np.where(image.get_fdata() > 0.7, 2, image.get_fdata() > 0.4))
    assert [row["voxels"] for row in told["instances"]] == [int((array == r["id"]).sum()) for r in told["instances"]]
    record = json.loads((out / "a/record.json").read_text(encoding="utf-8"))
    assert record["instances"] == 3
    assert record["outputs"] == {f: sha256(out / "a" / f) for f in CASE - {"record.json"}}
    assert record["inference"].items() >= {"min_score": 0.3, "mask_iou": 0.3, "mask_iom": 0.6, "flips": []}.items()
    rows = table(out / "a/measurements.csv")
    assert [(r["structure"], r["count"], r["voxels"]) for r in rows] == [("dim", "1", "125"), ("bright", "2", "151")]
    assert float(rows[1]["volume_ml"]) == pytest.approx(0.453)
    assert [r["count"] for r in table(out / "summary.csv")] == ["1", "2"] * 3
    measured = json.loads((out / "a/measurements.json").read_text(encoding="utf-8"))["structures"]
    assert [row["count"] for row in measured] == [1, 2]


def test_viewers_show_each_instance_as_a_segment(scans, toy, tmp_path):
    predict(scans / "a.nii.gz", finding(toy), tmp_path / "out")
    case = tmp_path / "out" / "a"
    ids = read_nifti(case / "instances.nii.gz", ReadOptions())
    shown = read_nrrd(case / "segmentation.seg.nrrd", ReadOptions())
    assert np.array_equal(shown.array, ids.array)
    assert {label.name for label in shown.labels} == {"bright 1", "bright 2", "dim 3"}
    assert len({label.colour for label in shown.labels}) == 3
    bright, dim = shown.labels.by_value[1], shown.labels.by_value[3]
    assert bright.type.value == "51282000"
    assert dim.category.value == "123037004"
    text = (case / "segmentation.seg.nrrd").read_bytes()[:4000].decode("latin-1")
    assert "medseg.score:0.5" in text
    page = (case / "report.html").read_text(encoding="utf-8")
    assert "dim 3" in page
    assert "Score" in page


def test_flat_resume_and_overwrite(scans, toy, tmp_path):
    out, bundle = tmp_path / "out", finding(toy)
    predict(scans, bundle, out, flat=True)
    assert (out / "details/a/instances.nii.gz").is_file()
    assert (out / "a.nii.gz").is_file()
    again = predict(scans, bundle, out, flat=True, resume=True)
    assert [case.status for case in again.cases] == ["finished before"] * 3
    assert [m.count for m in again.cases[0].measurements] == [1, 2]
    (out / "details/a/instances.json").write_text("{}", encoding="utf-8")
    (out / "details/b/instances.json").unlink()
    ids = read_nifti(out / "details/c/instances.nii.gz", ReadOptions())
    write_nifti(out / "details/c/instances.nii.gz", np.where(ids.array == 3, 1, ids.array), ids.affine)
    edited = sha256(out / "details/c/instances.nii.gz")
    again = predict(scans, bundle, out, flat=True, resume=True)
    assert [case.status for case in again.cases] == ["done", "done", "kept"]
    assert (out / "details/a/instances.kept-1.json").is_file(), "what somebody else wrote is set aside"
    assert sha256(out / "details/c/instances.nii.gz") == edited
    assert all("edited by hand" in m.flags[-1] for m in again.cases[2].measurements)
    assert [r["count"] for r in table(out / "summary.csv")] == ["1", "2"] * 3
    shutil.rmtree(out / "details/b")
    (out / "b.nii.gz").unlink()
    again = predict(scans / "b.nii.gz", bundle, out, flat=True, resume=True)
    assert [r["count"] for r in table(out / "summary.csv")] == ["1", "2"] * 3, "rows of other cases stay as they are"
    predict(scans, bundle, out, overwrite=True)
    assert (out / "c/instances.nii.gz").is_file()
    assert (out / "details/c/instances.kept-1.nii.gz").is_file() or (out / "details/c/instances.nii.gz").is_file()


def test_a_dry_run_says_what_would_be_written(scans, toy, tmp_path):
    bundle = finding(toy, roi_size=(8, 8, 8), overlap=4)
    report = predict(scans / "a.nii.gz", bundle, tmp_path / "out", dry_run=True)
    (plan,) = report.plan
    assert report.exit_code == 0
    assert plan.windows == len(bundle.inferer.tiles_over((20, 22, 18), bundle.network)) > 8
    assert set(plan.writes) == {f"a/{name}" for name in CASE}
    assert not (tmp_path / "out").exists()


def test_one_at_the_border_is_marked(toy, scan):
    array = scan.array.copy()
    array[18:, 3:6, 3:6] = 0.6
    made = segment(replace(scan, array=array), finding(toy)).instances
    assert [(r.voxels, r.flags) for r in made.rows if r.cut_by_border] == [(18, (EDGE,))]


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_dicom_has_a_segment_for_each_instance(data, toy, tmp_path, kind):
    series = data("dicom") / "dev" / "mr_hippocampus_crop_13"
    report = predict(series, finding(toy, Pieces(0.8)), tmp_path / "out", outside_domain=True, dicom=kind)
    assert report.exit_code == 0
    (case,) = report.cases
    assert not any("no DICOM objects" in note for note in case.notes)
    told = json.loads((case.folder / "instances.json").read_text(encoding="utf-8"))["instances"]
    assert len(told) > 2
    made = pydicom.dcmread(case.folder / "dicom" / "seg.dcm")
    names = [str(one.SegmentLabel) for one in made.SegmentSequence if str(one.SegmentLabel) != "Background"]
    assert names == [f"{row['structure']} {row['id']}" for row in told]
    assert (case.folder / "dicom" / "measurements.dcm").is_file()


def test_python(scan, toy, tmp_path):
    result = predict_one(scan, finding(toy))
    assert [row["structure"] for row in result.found()] == ["bright", "bright", "dim"]
    assert result.instances.array.max() == 3
    assert [row["count"] for row in result.table()] == [1, 2]
    assert (result.save(tmp_path / "case") / "instances.json").is_file()
    plain = predict_one(scan, toy)
    assert plain.instances is None
    assert plain.found() == []
    assert "count" not in plain.table()[0]
