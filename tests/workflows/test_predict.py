from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest
import torch
from rich.console import Console

from medseg.errors import BundleError, InputError, MemoryLimitError, OutputError, UsageError
from medseg.inferers.sliding import SlidingWindowInferer
from medseg.readers.nifti import read_nifti
from medseg.volume import Volume
from medseg.workflows.predict import predict
from medseg.workflows.reporter import ConsoleReporter, Reporter
from medseg.writers.atomic import sha256
from medseg.writers.nifti import write_nifti

if TYPE_CHECKING:
    from pathlib import Path


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def everything(out: Path) -> set[str]:
    return {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file() and p.name != ".medseg.lock"}


CASE = {"segmentation.nii.gz", "measurements.csv", "measurements.json", "preview.png", "record.json"}
CASE |= {"image.nii.gz", "segmentation.seg.nrrd", "scene.mrml", "report.html"}
RUN = {"index.html", "summary.csv", "failures.csv", "record.json"}


@pytest.fixture
def screen():
    return io.StringIO()


@pytest.fixture
def spoken(screen):
    """A reporter as on a pipe; what it says is in `screen`."""
    return ConsoleReporter(Console(file=screen, width=200))


def test_a_folder_of_scans(scans, toy, truth, tmp_path, spoken, screen):
    out = tmp_path / "out"
    report = predict(scans, toy, out, progress=spoken)
    assert report.exit_code == 0
    assert everything(out) == RUN | {f"{case}/{file}" for case in "abc" for file in CASE}
    for case in "abc":
        image, labels = (nibabel.load(p) for p in (scans / f"{case}.nii.gz", out / case / "segmentation.nii.gz"))
        assert np.array_equal(np.asarray(labels.dataobj), truth(np.asarray(image.dataobj)))
        assert labels.get_data_dtype() == np.uint8
        assert np.array_equal(labels.affine, image.affine), "the same place, to the last bit"
        record = json.loads((out / case / "record.json").read_text(encoding="utf-8"))
        assert record["outputs"] == {f: sha256(out / case / f) for f in CASE - {"record.json"}}
        assert record["input"]["files"][0]["sha256"] == sha256(scans / f"{case}.nii.gz")
        assert record["notice"] == "research use only; not a medical device"
        assert record["bundle"]["sha256"]["models/model.pt"] == sha256(toy.root / "models" / "model.pt")
    rows = table(out / "summary.csv")
    assert [(r["case"], r["structure"], r["voxels"]) for r in rows[:2]] == [("a", "dim", "125"), ("a", "bright", "150")]
    assert float(rows[0]["volume_ml"]) == pytest.approx(125 * 3 / 1000)
    assert table(out / "failures.csv") == []
    said = screen.getvalue()
    assert "3 cases | toy 0.0.1 | cpu" in said.splitlines()[0]
    assert "[2/3] b: done in" in said
    assert "3 of 3 cases" in said


def test_the_label_map_says_what_its_values_mean(scans, toy, tmp_path):
    predict(scans / "a.nii.gz", toy, tmp_path / "out")
    volume = read_nifti(tmp_path / "out" / "a" / "segmentation.nii.gz")
    assert [label.name for label in volume.labels] == ["dim", "bright"]


def test_one_unreadable_file_among_five(scans, toy, tmp_path, spoken, screen):
    for name in "de":
        shutil.copy(scans / "a.nii.gz", scans / f"{name}.nii.gz")
    whole = (scans / "c.nii.gz").read_bytes()
    (scans / "c.nii.gz").write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "out"
    report = predict(scans, toy, out, progress=spoken)
    assert report.exit_code == 6
    assert [case.status for case in report.cases] == ["done", "done", "failed", "done", "done"]
    assert sorted(p.parent.name for p in out.glob("*/segmentation.nii.gz")) == ["a", "b", "d", "e"]
    assert not (out / "c").exists()
    (row,) = table(out / "failures.csv")
    assert row["case"] == "c"
    assert row["file"].endswith("c.nii.gz")
    assert row["code"].startswith("MS-")
    assert row["mend"]
    said = screen.getvalue()
    assert row["code"] in said
    assert row["file"] in said
    assert row["mend"] in said
    assert "4 of 5 cases" in said


def test_every_case_bad(scans, toy, tmp_path):
    for path in scans.iterdir():
        path.write_bytes(b"")
    report = predict(scans, toy, tmp_path / "out")
    assert report.exit_code == 3
    assert everything(tmp_path / "out") == RUN
    assert len(table(tmp_path / "out" / "failures.csv")) == 3


def test_out_of_memory_has_its_own_exit_code(scans, toy, tmp_path):
    def full(inputs, network):
        raise MemoryLimitError("MS-M101", "it fits nowhere", mend="crop it")

    report = predict(scans, replace(toy, inferer=full), tmp_path / "out")
    assert report.exit_code == 5
    assert {row["code"] for row in table(tmp_path / "out" / "failures.csv")} == {"MS-M101"}


def test_a_bug_in_one_case_does_not_stop_the_others(scans, toy, tmp_path):
    calls = []

    def second_fails(inputs, network):
        calls.append(1)
        if len(calls) == 2:
            raise KeyError("PatientName DOE^JOHN")
        return toy.inferer(inputs, network)

    report = predict(scans, replace(toy, inferer=second_fails), tmp_path / "out")
    assert [case.status for case in report.cases] == ["done", "failed", "done"]
    text = (tmp_path / "out" / "failures.csv").read_text(encoding="utf-8")
    assert "MS-O399" in text
    assert "KeyError at" in text
    assert "DOE" not in text


def far_apart(scans: Path) -> Path:
    """Scan b with voxels of 40 mm: outside the toy's domain."""
    volume = read_nifti(scans / "b.nii.gz")
    write_nifti(scans / "b.nii.gz", volume.array, np.diag([40.0, 40.0, 40.0, 1.0]))
    return scans


def test_a_scan_outside_the_domain_is_refused(scans, toy, tmp_path):
    report = predict(far_apart(scans), toy, tmp_path / "out")
    assert report.exit_code == 6
    (row,) = table(tmp_path / "out" / "failures.csv")
    assert row["code"] == "MS-X102"
    assert "field of view 800 x 880 x 720 mm" in row["what"]
    assert "voxel spacing 40 x 40 x 40 mm" in row["what"]
    assert "--outside-domain" in row["mend"]
    assert not (tmp_path / "out" / "b").exists()


@pytest.mark.parametrize("flat", [False, True])
def test_an_allowed_scan_outside_the_domain_is_marked_everywhere(scans, toy, tmp_path, spoken, screen, flat):
    out = tmp_path / "out"
    report = predict(far_apart(scans), toy, out, outside_domain=True, flat=flat, progress=spoken)
    assert report.exit_code == 0
    assert [bool(case.outside_domain) for case in report.cases] == [False, True, False]
    folder = out / "details" / "b" if flat else out / "b"
    label_map = out / "b.nii.gz" if flat else out / "b" / "segmentation.nii.gz"
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    assert [row["code"] for row in record["outside_domain"]] == ["MS-X102", "MS-X103"]
    assert json.loads((folder / "measurements.json").read_text(encoding="utf-8"))["outside_domain"]
    assert {row["outside_domain"] for row in table(folder / "measurements.csv")} == {"yes"}
    assert nibabel.load(label_map).header["descrip"].item() == b"OUTSIDE TRAINING DOMAIN"
    marks = {row["case"]: row["outside_domain"] for row in table(out / "summary.csv")}
    assert marks == {"a": "no", "b": "yes", "c": "no"}
    lines = [line for line in screen.getvalue().splitlines() if "OUTSIDE TRAINING DOMAIN" in line]
    assert any(line.startswith("[2/3] b") for line in lines)
    assert sum(line.lstrip().startswith("b ") for line in lines) == 2, "both rows of the table"
    plain = predict(scans / "a.nii.gz", toy, tmp_path / "plain").cases[0].folder
    assert (folder / "preview.png").read_bytes() != (plain / "preview.png").read_bytes()


def test_flat(scans, toy, tmp_path):
    predict(scans, toy, tmp_path / "out", flat=True)
    details = {f"details/{case}/{file}" for case in "abc" for file in CASE - {"segmentation.nii.gz"}}
    assert everything(tmp_path / "out") == RUN | {"a.nii.gz", "b.nii.gz", "c.nii.gz"} | details


def test_a_dry_run_writes_nothing(scans, toy, tmp_path, spoken, screen):
    far_apart(scans)
    report = predict(scans, toy, tmp_path / "out", dry_run=True, progress=spoken)
    assert not (tmp_path / "out").exists()
    assert report.exit_code == 6, "as the run would"
    a, b, _ = report.plan
    assert (a.shape, a.network_shape, a.windows) == ((20, 22, 18), (20, 22, 18), 8)
    assert a.memory_mb > 0
    assert a.seconds > 0
    assert a.writes[0] == "a/segmentation.nii.gz"
    assert b.failure.code == "MS-X102"
    assert "nothing was written" in screen.getvalue()
    assert "2 of 3 cases" in screen.getvalue()
    assert report.to_json()["cases"][1]["code"] == "MS-X102"


def test_a_dry_run_foresees_a_folder_in_the_way_and_what_a_resumed_run_leaves(scans, toy, tmp_path, spoken, screen):
    out = tmp_path / "out"
    predict(scans, toy, out)
    with pytest.raises(OutputError, match="MS-O303"):
        predict(scans, toy, out, dry_run=True)
    (out / "b" / "preview.png").unlink()
    volume = read_nifti(out / "c" / "segmentation.nii.gz")
    write_nifti(out / "c" / "segmentation.nii.gz", np.zeros_like(volume.array), volume.affine)
    before = {path: sha256(out / path) for path in everything(out)}
    report = predict(scans, toy, out, resume=True, dry_run=True, progress=spoken)
    assert [(case.stays, bool(case.writes)) for case in report.plan] == [
        ("finished before", False),
        ("", True),
        ("edited by hand: kept", False),
    ]
    assert "a: stays as it is: finished before" in screen.getvalue()
    assert "1 of 3 cases to do, 2 stay" in screen.getvalue()
    assert {path: sha256(out / path) for path in everything(out)} == before
    assert len(predict(scans, toy, out, overwrite=True, dry_run=True).plan) == 3


def test_a_dry_run_survives_a_bundle_that_fails_on_a_case(scans, toy, tmp_path):
    def fails(data):
        raise KeyError("PatientName DOE^JOHN")

    report = predict(scans, replace(toy, preprocessing=fails), tmp_path / "out", dry_run=True)
    assert report.exit_code == 3
    assert {case.failure.code for case in report.plan} == {"MS-O399"}


def test_a_bundle_without_a_domain_marks_every_output(scans, toy, tmp_path, spoken, screen):
    out = tmp_path / "out"
    predict(scans / "a.nii.gz", replace(toy, domain=None), out, progress=spoken)
    assert nibabel.load(out / "a" / "segmentation.nii.gz").header["descrip"].item() == b"domain not declared"
    for path in (out / "summary.csv", out / "a" / "measurements.csv"):
        assert {row["outside_domain"] for row in table(path)} == {"not declared"}
    assert json.loads((out / "a" / "measurements.json").read_text(encoding="utf-8"))["domain_declared"] is False
    assert json.loads((out / "a" / "record.json").read_text(encoding="utf-8"))["domain_declared"] is False
    assert "domain not declared" in screen.getvalue()
    again = predict(scans / "a.nii.gz", replace(toy, domain=None), out, resume=True)
    assert [case.mark for case in again.cases] == ["not declared"]


def test_a_folder_that_holds_something_is_refused(scans, toy, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.doc").write_text("mine")
    with pytest.raises(OutputError, match=r"MS-O303 .*not empty .1 entry, such as 'thesis.doc'") as caught:
        predict(scans, toy, tmp_path / "out")
    assert caught.value.exit_code == 7
    assert everything(tmp_path / "out") == {"thesis.doc"}
    with pytest.raises(OutputError, match="MS-O304"):
        predict(scans, toy, tmp_path / "out", resume=True)
    assert predict(scans, toy, tmp_path / "out", overwrite=True).exit_code == 0
    assert (tmp_path / "out" / "thesis.doc").read_text() == "mine"


def test_results_do_not_become_input(scans, toy):
    with pytest.raises(UsageError, match="MS-O306"):
        predict(scans, toy, scans / "out")


def test_resume_and_overwrite_contradict_each_other(scans, toy, tmp_path):
    with pytest.raises(UsageError, match="MS-U302"):
        predict(scans, toy, tmp_path / "out", resume=True, overwrite=True)


def test_a_bundle_that_is_refused_stops_before_anything_is_written(scans, tmp_path):
    with pytest.raises(BundleError):
        predict(scans, tmp_path / "no such bundle", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_to_do_is_an_error(toy, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="MS-C101"):
        predict(tmp_path / "empty", toy, tmp_path / "out")


class Interrupts(Reporter):
    def case(self, name, number, total):
        if number == 3:
            raise KeyboardInterrupt


def test_an_interrupted_run_keeps_what_is_finished(scans, toy, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        predict(scans, toy, out, progress=Interrupts())
    assert everything(out) == RUN | {f"{case}/{file}" for case in "ab" for file in CASE}
    run = json.loads((out / "record.json").read_text(encoding="utf-8"))
    assert (run["state"], run["cases"]) == ("interrupted", {"a": "done", "b": "done"})
    assert {row["case"] for row in table(out / "summary.csv")} == {"a", "b"}
    report = predict(scans, toy, out, resume=True)
    assert [case.status for case in report.cases] == ["finished before", "finished before", "done"]
    assert {row["case"] for row in table(out / "summary.csv")} == {"a", "b", "c"}


def test_quirky_axis_orders_agree(data, toy, tmp_path):
    """The 12 axis orders of one scan, each segmented on its own grid, give one segmentation."""
    folder = data("nifti_quirks") / "nifti_space_48"
    large = replace(toy, inferer=SlidingWindowInferer((64, 64, 64), output="labels"))
    report = predict(folder, large, tmp_path / "out", outside_domain=True)
    assert len(report.cases) == 12
    assert report.exit_code == 0
    turned = [read_nifti(case.folder / "segmentation.nii.gz").reoriented("RAS") for case in report.cases]
    assert turned[0].array.any()
    for case, labels in zip(report.cases, turned, strict=True):
        assert np.array_equal(labels.array, turned[0].array), case.name
        assert np.abs(labels.grid.corners_mm - turned[0].grid.corners_mm).max() < 1e-3


def test_dicom_and_nifti_of_one_volume_agree(data, toy, tmp_path):
    folder = data("dicom") / "dev" / "mr_hippocampus_crop_13"
    series = next(p for p in (folder, *folder.iterdir()) if p.is_dir() and any(f.suffix == ".dcm" for f in p.iterdir()))
    first = predict(series, toy, tmp_path / "dicom", outside_domain=True)
    (case,) = first.cases
    assert case.failure is None
    labels = read_nifti(case.folder / "segmentation.nii.gz")
    import medseg

    volume = medseg.read(series)
    assert labels.array.shape == volume.array.shape
    write_nifti(tmp_path / "same.nii.gz", volume.array, volume.affine)
    (again,) = predict(tmp_path / "same.nii.gz", toy, tmp_path / "nifti", outside_domain=True).cases
    other = read_nifti(again.folder / "segmentation.nii.gz")
    assert np.array_equal(labels.array, other.array)
    assert labels.array.any()
    assert np.abs(labels.grid.corners_mm - other.grid.corners_mm).max() < 1e-3


SENTINEL = "ZZSENTINELZZ"


def test_no_patient_data_leaves(toy, tmp_path):
    folder = tmp_path / "study"
    write_dicom(folder)
    report = predict(folder, toy, tmp_path / "out", outside_domain=True)
    assert report.exit_code == 0, report.failures
    checked = 0
    for path in sorted((tmp_path / "out").rglob("*")):
        assert SENTINEL not in path.name
        if path.is_file():
            raw = path.read_bytes()
            for content in (raw, gzip.decompress(raw) if path.suffix == ".gz" else b""):
                assert SENTINEL.encode() not in content, path
                assert b"19430704" not in content, path
            checked += 1
    assert checked >= 8


def write_dicom(folder: Path) -> None:
    """A small axial MR series whose every free-text tag holds the sentinel."""
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    folder.mkdir()
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    image = np.random.default_rng(0).integers(0, 900, (12, 20, 24)).astype(np.uint16)
    image[4:8, 6:14, 6:14] = 2000
    for k, pixels in enumerate(image):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = pydicom.uid.MRImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        ds = FileDataset(str(folder), {}, file_meta=meta, preamble=b"\0" * 128)
        ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.FrameOfReferenceUID = series, study, frame
        ds.Modality, ds.SeriesNumber, ds.InstanceNumber = "MR", 7, k + 1
        for word in ("PatientName", "PatientID", "OtherPatientNames", "PatientAddress", "PatientComments"):
            setattr(ds, word, SENTINEL)
        for word in ("InstitutionName", "ReferringPhysicianName", "StudyDescription", "SeriesDescription"):
            setattr(ds, word, SENTINEL)
        for word in ("ProtocolName", "AccessionNumber", "StationName", "OperatorsName", "ImageComments", "StudyID"):
            setattr(ds, word, SENTINEL)
        ds.PatientBirthDate = ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = "19430704"
        ds.StudyTime = ds.SeriesTime = "101112"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "M"]
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.ImagePositionPatient = [-10, -12, 2.0 * k]
        ds.PixelSpacing, ds.SliceThickness = [1, 1], 2
        ds.Rows, ds.Columns = pixels.shape
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.PixelData = pixels.tobytes()
        ds.save_as(folder / f"{k:03d}.dcm", enforce_file_format=True)


def test_several_channels(toy, tmp_path, truth, scan):
    """Two files a case, of which the toy's network looks at the first only: the order of channels is kept."""
    import torch

    class First(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return self.inner(x[:, :1])

    two = replace(toy, channels=("T1", "FLAIR"), domain=None, network=First(toy.network))
    write_nifti(tmp_path / "in" / "p_0000.nii.gz", scan.array, scan.affine)
    write_nifti(tmp_path / "in" / "p_0001.nii.gz", scan.array * 0 + scan.array.max() - scan.array, scan.affine)
    report = predict(tmp_path / "in", two, tmp_path / "out")
    assert [(c.name, c.status) for c in report.cases] == [("p", "done")]
    assert np.array_equal(read_nifti(tmp_path / "out" / "p" / "segmentation.nii.gz").array, truth(scan.array))
    record = json.loads((tmp_path / "out" / "p" / "record.json").read_text(encoding="utf-8"))
    assert record["input"]["channels"] == ["T1", "FLAIR"]
    assert [row["name"] for row in record["input"]["files"]] == ["p_0000.nii.gz", "p_0001.nii.gz"]


def test_a_volume_of_another_kind_keeps_its_affine_exactly(toy, tmp_path):
    """An oblique, left-handed affine comes back bit for bit."""
    rng = np.random.default_rng(3)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * [1.1, 0.9, 2.0], [3.3, -71.7, 20.1]
    image = Volume(rng.random((20, 22, 18), dtype=np.float32), affine.astype(np.float32))
    write_nifti(tmp_path / "x.nii.gz", image.array, image.affine)
    predict(tmp_path / "x.nii.gz", toy, tmp_path / "out", outside_domain=True)
    before, after = (nibabel.load(p) for p in (tmp_path / "x.nii.gz", tmp_path / "out" / "x" / "segmentation.nii.gz"))
    assert np.array_equal(before.affine, after.affine)


def test_fallbacks_of_the_memory_ladder_are_told_and_recorded(scans, toy, truth, tmp_path, spoken, screen):
    class Narrow(torch.nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, x):
            if x.shape[0] > 1:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return self.network(x)

    inferer = SlidingWindowInferer(16, 0.25, sw_batch_size=2, output="labels")
    small = replace(toy, network=Narrow(toy.network).eval(), inferer=inferer)
    report = predict(scans / "a.nii.gz", small, tmp_path / "out", progress=spoken)
    told = "out of memory on cpu: 1 window at a time instead of 2"
    assert report.cases[0].notes[0] == told
    assert told in screen.getvalue()
    record = json.loads((tmp_path / "out" / "a" / "record.json").read_text(encoding="utf-8"))
    assert {"code": "MS-M201", "message": told} in record["inference"]["events"]
    assert told in record["warnings"]
    labels = read_nifti(tmp_path / "out" / "a" / "segmentation.nii.gz").array
    assert np.array_equal(labels, truth(read_nifti(scans / "a.nii.gz").array))


def test_the_record_says_what_computed_it_and_what_clean_up_did(scans, toy, tmp_path, spoken, screen):
    predict(scans / "a.nii.gz", toy, tmp_path / "out", progress=spoken)
    record = json.loads((tmp_path / "out" / "a" / "record.json").read_text(encoding="utf-8"))
    assert {"torch", "monai", "numba", "scipy", "connected-components-3d"} <= record["versions"].keys()
    assert record["inference"]["device"] == "cpu"
    assert record["inference"]["threads"] == torch.get_num_threads()
    assert record["inference"]["platform"]
    assert record["parameters"]["produced"]["uncertainty"] is None
    assert record["uncertainty"] is None
    assert record["domain_declared"] is True
    assert record["cleaned_ml"] == {"bright": pytest.approx(0.003)}
    assert record["filled_ml"] == {}
    assert "clean-up removed 0.003 mL of bright" in screen.getvalue()


def test_filled_holes_are_told(scans, toy, tmp_path):
    from monai.transforms import Compose

    from medseg.transforms import CleanComponentsd

    volume = read_nifti(scans / "a.nii.gz")
    array = volume.array.copy()
    array[13, 14, 8] = 0.0
    write_nifti(scans / "a.nii.gz", array, volume.affine)
    steps = [*toy.postprocessing.transforms, CleanComponentsd("pred", fill_holes=[2])]
    report = predict(scans / "a.nii.gz", replace(toy, postprocessing=Compose(steps)), tmp_path / "out")
    removed, filled = report.cases[0].notes
    assert filled == "clean-up filled 0.003 mL of holes in bright"
    assert removed == "clean-up removed 0.003 mL of bright", "by the step before"
