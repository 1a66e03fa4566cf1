from __future__ import annotations

import json

import numpy as np
import pytest

import medseg
from medseg.errors import DomainError, InputError, OutputError, UsageError
from medseg.readers.nifti import read_nifti
from medseg.volume import Volume
from medseg.workflows.predict import predict as predict_files


def test_an_array_a_volume_and_a_file_give_one_result(scan, scans, toy, truth, tmp_path):
    by_array = medseg.predict(scan.array, toy, affine=scan.affine)
    by_volume = medseg.predict(scan, toy)
    by_file = medseg.predict(scans / "a.nii.gz", toy)
    predict_files(scans / "a.nii.gz", toy, tmp_path / "out")
    on_disk = read_nifti(tmp_path / "out" / "a" / "segmentation.nii.gz")
    for labels in (by_array.segmentation, by_volume.segmentation, by_file.segmentation, on_disk):
        assert np.array_equal(labels.array, truth(scan.array))
        assert np.allclose(labels.affine, scan.affine)
    assert by_file.name == "a"
    assert by_array.segmentation.labels is toy.labels
    assert [m.structure for m in by_file.measurements] == ["dim", "bright"]
    assert by_file.table()[0]["voxels"] == 125
    assert by_file.record["input"]["files"][0]["name"] == "a.nii.gz"
    assert "dim 0.37 mL" in repr(by_file)


def test_save_writes_what_the_command_writes(scan, scans, toy, tmp_path):
    predict_files(scans / "a.nii.gz", toy, tmp_path / "out")
    folder = medseg.predict(scans / "a.nii.gz", toy).save(tmp_path / "saved")
    names = {p.name for p in (tmp_path / "out" / "a").iterdir()}
    assert {p.name for p in folder.iterdir() if p.name != ".medseg.lock"} == names
    for name in names - {"record.json"}:
        assert (folder / name).read_bytes() == (tmp_path / "out" / "a" / name).read_bytes(), name
    assert json.loads((folder / "record.json").read_text(encoding="utf-8"))["outputs"]
    result = medseg.predict(scan, toy)
    with pytest.raises(OutputError, match="MS-O303"):
        result.save(folder)
    result.save(folder, overwrite=True)


def test_the_domain_guards_python_too(scan, toy):
    far = Volume(scan.array, np.diag([40.0, 40.0, 40.0, 1.0]))
    with pytest.raises(DomainError, match=r"MS-X102 .*not what toy was trained on: field of view"):
        medseg.predict(far, toy)
    result = medseg.predict(far, toy, outside_domain=True)
    assert result.outside_domain[0].startswith("field of view")
    assert "OUTSIDE TRAINING DOMAIN" in repr(result)
    assert {row["outside_domain"] for row in result.table()} == {"yes"}


def test_an_array_needs_an_affine_and_nothing_else_takes_one(scan, scans, toy):
    with pytest.raises(UsageError, match="MS-U304 an array has no place in space"):
        medseg.predict(scan.array, toy)
    with pytest.raises(UsageError, match="MS-U304 only an array"):
        medseg.predict(scans / "a.nii.gz", toy, affine=np.eye(4))


def test_a_folder_of_several_cases_is_refused(scans, toy):
    with pytest.raises(InputError, match=r"MS-O307 .*3 cases here .a, b, c."):
        medseg.predict(scans, toy)


def test_reading_options_pass_through(toy, tmp_path):
    with pytest.raises(UsageError, match="MS-U110"):
        medseg.predict(tmp_path / "x.nii.gz", toy, assume_orientation="XYZ")


def test_windows_are_told(scan, toy):
    calls = []
    medseg.predict(scan, toy, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1][0] == calls[-1][1] == 8


def test_view_opens_what_it_saves(scan, toy, tmp_path, monkeypatch):
    from medseg.workflows import result as module

    opened = []
    monkeypatch.setattr(module, "open_result", opened.append)
    folder = medseg.predict(scan, toy).view(tmp_path / "shown")
    assert opened[0].path.parent == folder
    assert opened[0].path.is_file()
    again = medseg.predict(scan, toy, name="b").view()
    assert again.name == "b"
    assert opened[1].path.parent == again.resolve()
