from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from medseg.errors import OutputError
from medseg.readers.nifti import read_nifti
from medseg.readers.options import ReadOptions
from medseg.workflows.predict import predict
from medseg.writers.nifti import write_nifti


@pytest.fixture(scope="module")
def finished(toy, tmp_path_factory):
    """(folder of two scans, finished output folder); copy it before changing it."""
    root = tmp_path_factory.mktemp("finished")
    for name in "ab":
        array = np.random.default_rng(ord(name)).random((20, 22, 18), dtype=np.float32) * 0.2
        array[4:9, 4:9, 4:9] = 1.0
        write_nifti(root / "scans" / f"{name}.nii.gz", array, np.eye(4))
    predict(root / "scans", toy, root / "out")
    return root


@pytest.fixture
def place(finished, tmp_path):
    for folder in ("scans", "out"):
        shutil.copytree(finished / folder, tmp_path / folder)
    return tmp_path


def snapshot(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def cases_of(snap):
    """Without what every run writes anew."""
    return {name: content for name, content in snap.items() if "/" in name}


def statuses(report):
    return [case.status for case in report.cases]


def test_a_finished_run_is_left_alone(place, toy):
    before = snapshot(place / "out")
    report = predict(place / "scans", toy, place / "out", resume=True)
    assert statuses(report) == ["finished before"] * 2
    assert report.exit_code == 0
    after = snapshot(place / "out")
    assert cases_of(after) == cases_of(before)
    assert after["summary.csv"] == before["summary.csv"]


@pytest.mark.parametrize("file", ["segmentation.nii.gz", "measurements.csv", "preview.png", "record.json"])
def test_a_missing_file_is_made_again(place, toy, file):
    before = cases_of(snapshot(place / "out"))
    (place / "out" / "b" / file).unlink()
    if file == "record.json":  # without it nobody knows who made the segmentation
        (place / "out" / "b" / "segmentation.nii.gz").unlink()
    report = predict(place / "scans", toy, place / "out", resume=True)
    assert statuses(report) == ["finished before", "done"]
    after = cases_of(snapshot(place / "out"))
    assert set(after) >= set(before)
    assert after["b/segmentation.nii.gz"] == before["b/segmentation.nii.gz"]


@pytest.mark.parametrize("keep", [0, 10, 200, -8, -1])
def test_a_truncated_segmentation_is_made_again(place, toy, keep):
    path = place / "out" / "b" / "segmentation.nii.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:keep])
    report = predict(place / "scans", toy, place / "out", resume=True)
    assert statuses(report) == ["finished before", "done"]
    assert report.cases[1].notes[0] == "the segmentation is broken"
    assert path.read_bytes() == whole
    assert sorted(p.name for p in path.parent.iterdir()) == sorted(p.name for p in (place / "out" / "a").iterdir())


def edit(path):
    volume = read_nifti(path)
    array = volume.array.copy()
    array[0:3, 0:3, 0:3] = 2
    write_nifti(path, array, volume.affine)
    return path.read_bytes()


def test_a_segmentation_edited_by_hand_is_kept_and_measured_as_it_is(place, toy):
    path = place / "out" / "a" / "segmentation.nii.gz"
    edited = edit(path)
    report = predict(place / "scans", toy, place / "out", resume=True)
    assert statuses(report) == ["kept", "finished before"]
    assert report.exit_code == 0
    assert path.read_bytes() == edited
    assert report.cases[0].notes == ("edited by hand: kept",)
    bright = report.cases[0].measurements[1]
    assert bright.voxels == int((read_nifti(path).array == 2).sum())
    assert "edited by hand: kept" in bright.flags
    assert "edited by hand: kept" in (place / "out" / "summary.csv").read_text(encoding="utf-8")


def test_a_segmentation_that_medseg_never_wrote_is_kept(place, toy):
    shutil.rmtree(place / "out" / "b")
    image = read_nifti(place / "scans" / "b.nii.gz")
    write_nifti(place / "out" / "b" / "segmentation.nii.gz", np.zeros(image.array.shape, np.uint8), image.affine)
    own = (place / "out" / "b" / "segmentation.nii.gz").read_bytes()
    report = predict(place / "scans", toy, place / "out", resume=True)
    assert statuses(report) == ["finished before", "kept"]
    assert report.cases[1].notes == ("not written by medseg: kept",)
    assert (place / "out" / "b" / "segmentation.nii.gz").read_bytes() == own


def test_overwrite_sets_an_edited_segmentation_aside(place, toy):
    before = (place / "out" / "a" / "segmentation.nii.gz").read_bytes()
    edited = edit(place / "out" / "a" / "segmentation.nii.gz")
    (place / "out" / "a" / "notes.txt").write_text("mine")
    report = predict(place / "scans", toy, place / "out", overwrite=True)
    assert statuses(report) == ["done", "done"]
    folder = place / "out" / "a"
    assert (folder / "segmentation.nii.gz").read_bytes() == before
    assert (folder / "segmentation.kept-1.nii.gz").read_bytes() == edited
    assert (folder / "notes.txt").read_text() == "mine"
    assert report.cases[0].notes[-1] == "kept as segmentation.kept-1.nii.gz"
    edit(folder / "segmentation.nii.gz")
    predict(place / "scans", toy, place / "out", overwrite=True)
    assert (folder / "segmentation.kept-2.nii.gz").exists()
    assert (folder / "segmentation.kept-1.nii.gz").read_bytes() == edited
    assert not list((place / "out" / "b").glob("*.kept-*"))


def test_a_changed_table_is_set_aside_and_made_again(place, toy):
    path = place / "out" / "a" / "measurements.csv"
    whole = path.read_bytes()
    path.write_bytes(whole + b"my remark\n")
    report = predict(place / "scans", toy, place / "out", resume=True)
    assert statuses(report) == ["done", "finished before"]
    assert path.read_bytes() == whole
    assert (path.parent / "measurements.kept-1.csv").read_bytes().endswith(b"my remark\n")


def test_a_changed_input_is_done_again(place, toy):
    image = read_nifti(place / "scans" / "b.nii.gz")
    write_nifti(place / "scans" / "b.nii.gz", image.array[::-1], image.affine)
    report = predict(place / "scans", toy, place / "out", resume=True)
    assert statuses(report) == ["finished before", "done"]
    assert report.cases[1].notes[0] == "the input b.nii.gz has changed"


def test_another_bundle_is_refused_and_nothing_is_touched(place, toy):
    before = snapshot(place / "out")
    other = replace(toy, hashes={**toy.hashes, "models/model.pt": "0" * 64})
    with pytest.raises(OutputError, match=r"MS-O305 .*other weights or configs of the bundle toy 0.0.1"):
        predict(place / "scans", other, place / "out", resume=True)
    with pytest.raises(OutputError, match=r"MS-O305 .*the bundle toy 0.0.1"):
        predict(place / "scans", replace(toy, name="liver"), place / "out", resume=True)
    assert snapshot(place / "out") == before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"flat": True}, "one folder a case"),
        ({"options": ReadOptions(series="3")}, "series=None"),
        ({"options": ReadOptions(assume_orientation="LPS")}, "assume_orientation=None"),
    ],
)
def test_other_options_are_refused(place, toy, change, says):
    with pytest.raises(OutputError, match=f"MS-O305 .*{says}") as caught:
        predict(place / "scans", toy, place / "out", resume=True, **change)
    assert caught.value.exit_code == 7


@pytest.mark.parametrize(
    "change",
    [
        {"options": ReadOptions(allow_gaps=True)},
        {"options": ReadOptions(nonfinite="fill:0")},
        {"outside_domain": True},
        {"strict": True},
    ],
)
def test_options_that_only_let_more_cases_through_may_be_added(place, toy, change):
    report = predict(place / "scans", toy, place / "out", resume=True, **change)
    assert statuses(report) == ["finished before"] * 2


def test_a_new_case_is_added(place, toy):
    shutil.copy(place / "scans" / "a.nii.gz", place / "scans" / "c.nii.gz")
    report = predict(place / "scans", toy, place / "out", resume=True)
    assert statuses(report) == ["finished before", "finished before", "done"]
    assert list(json.loads((place / "out" / "record.json").read_text())["cases"]) == ["a", "b", "c"]


def test_resume_into_nothing_is_a_plain_run(place, toy):
    assert statuses(predict(place / "scans", toy, place / "new", resume=True)) == ["done", "done"]


def test_a_failed_case_is_tried_again_and_leaves_the_list_of_failures(place, toy, tmp_path):
    whole = (place / "scans" / "b.nii.gz").read_bytes()
    (place / "scans" / "b.nii.gz").write_bytes(whole[:100])
    assert predict(place / "scans", toy, tmp_path / "second").exit_code == 6
    (place / "scans" / "b.nii.gz").write_bytes(whole)
    report = predict(place / "scans", toy, tmp_path / "second", resume=True)
    assert statuses(report) == ["finished before", "done"]
    assert (tmp_path / "second" / "failures.csv").read_text(encoding="utf-8").splitlines() == [
        "case,code,file,what,mend"
    ]


def test_a_resumed_run_over_one_case_keeps_the_rows_of_the_others(place, toy):
    scans, out = place / "scans", place / "out"
    shutil.copy(scans / "a.nii.gz", scans / "c.nii.gz")
    (scans / "b.nii.gz").write_bytes(b"")
    predict(scans, toy, out, overwrite=True)
    report = predict(scans / "a.nii.gz", toy, out, resume=True)
    assert [case.name for case in report.cases] == ["a"]
    summary = (out / "summary.csv").read_text(encoding="utf-8").splitlines()
    assert sorted({line.split(",")[0] for line in summary[1:]}) == ["a", "c"]
    assert "b,MS-" in (out / "failures.csv").read_text(encoding="utf-8")
    cases = json.loads((out / "record.json").read_text(encoding="utf-8"))["cases"]
    assert cases == {"a": "finished before", "b": "failed", "c": "done"}
