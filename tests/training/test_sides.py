"""No subject and no image on both sides, told before anything is trained."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from medseg.errors import InputError
from medseg.training import sides
from medseg.training.plan.problems import DatasetError
from medseg.training.sides import check_sides, subject_of


@pytest.fixture
def case(tmp_path):
    """Makes a case of a name, its image of a seed, its file of some type."""

    def make(name, seed, shape=(6, 5, 4), suffix=".nii.gz", dtype=np.int16, channels=0):
        image = np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)
        paths = [tmp_path / f"{name}{f'_{n:04}' if channels else ''}{suffix}" for n in range(channels or 1)]
        for n, path in enumerate(paths):
            nib.save(nib.Nifti1Image(image + n, np.eye(4)), path)
        named = [str(path) for path in paths]
        return {"image": named if channels else named[0], "label": f"labels/{name}.nii.gz"}

    return make


def told(train, validation, folder) -> set[tuple[str, str]]:
    with pytest.raises(DatasetError, match="MS-T140") as refused:
        check_sides(train, validation, folder)
    return {(one.code, one.case) for one in refused.value.problems}


def test_cases_that_differ_are_let_through_without_reading_other_shapes(case, tmp_path, monkeypatch):
    train = [case("a", 1), case("b", 2), case("b", 2)]
    opened = []
    monkeypatch.setattr(sides, "read", lambda path: opened.append(path) or pytest.fail("nothing to compare"))
    check_sides(train, [case("c", 3, shape=(9, 9, 9))], tmp_path)
    monkeypatch.undo()
    check_sides(train, [case("c", 3)], tmp_path)
    check_sides(train, [], tmp_path)


def test_the_same_image_is_found_in_another_file_of_another_type(case, tmp_path):
    train = [case("a", 1), case("b", 2)]
    copy = case("again", 2, suffix=".nii", dtype=np.float32)
    assert told(train, [case("c", 3), copy], tmp_path) == {("MS-T145", "again")}
    several = case("m", 5, channels=2)
    assert told([several], [case("n", 5, channels=2)], tmp_path) == {("MS-T145", "n")}


def test_a_subject_with_another_scan_is_found_by_its_name(case, tmp_path):
    train = [case("sub-01_ses-1", 1), case("sub-02", 2)]
    assert told(train, [case("sub-01_ses-2", 3), case("sub-03", 4)], tmp_path) == {("MS-T146", "sub-01_ses-2")}
    assert subject_of("labelsTr/sub-A7_T1w.nii.gz") == "sub-A7"
    assert subject_of("labelsTr/heart_3.nii.gz") == "heart_3"


def test_a_scan_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "x.nii.gz").write_bytes(b"no scan")
    item = {"image": str(tmp_path / "x.nii.gz"), "label": "labels/x.nii.gz"}
    with pytest.raises(InputError, match=r"x\.nii\.gz"):
        check_sides([item], [item], tmp_path)


def test_one_patient_id_on_both_sides_is_refused_without_telling_it(case, tmp_path):
    train = [case("a", 1), case("b", 2), case("sub-1", 6)]
    validation = [case("c", 3), case("d", 4, channels=2), case("sub-2", 5)]
    for name, who in (("a", "77"), ("b", "78"), ("c", "79"), ("d", "78"), ("sub-1", "80"), ("sub-2", "80")):
        (tmp_path / f"{name}.json").write_text(json.dumps({"PatientID": who}), encoding="utf-8")
    with pytest.raises(DatasetError, match="MS-T140") as refused:
        check_sides(train, validation, tmp_path)
    (problem,) = refused.value.problems
    assert (problem.code, problem.case) == ("MS-T146", "d")
    assert problem.what.endswith("trains with b")
    assert "78" not in str(problem.row())
