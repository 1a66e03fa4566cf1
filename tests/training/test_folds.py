"""Folds: nobody on both sides, all alike, and what a file says is checked."""

from __future__ import annotations

import json
import shutil
from collections import Counter

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.errors import InputError, UsageError
from medseg.training.folds import draw_folds, find_folds, fold_of, require_names
from medseg.training.plan.look import Facts
from medseg.training.plan.problems import DatasetError


def facts(name: str, values=(1,)) -> Facts:
    return Facts(name, (4, 4, 4), (1.0, 1.0, 1.0), (), dict.fromkeys(values), digest=name)


@settings(max_examples=100, deadline=None)
@given(
    subjects=st.lists(st.integers(0, 12), min_size=2, max_size=40),
    kinds=st.lists(st.sampled_from([(1,), (1, 2), (2, 3)]), min_size=40, max_size=40),
    sites=st.lists(st.sampled_from(["A", "B"]), min_size=40, max_size=40),
    count=st.integers(2, 5),
    seed=st.integers(0, 5),
)
def test_whole_subjects_validate_once(subjects, kinds, sites, count, seed):
    names = [f"case_{n:02}" for n in range(len(subjects))]
    of = {name: f"sub-{subject}" for name, subject in zip(names, subjects, strict=True)}
    every = [facts(name, values) for name, values in zip(names, kinds, strict=False)]
    where = dict(zip(names, sites, strict=False))
    if count > len(set(of.values())):
        with pytest.raises(UsageError, match="MS-T165"):
            draw_folds(every, of, count, where, seed)
        return
    found = draw_folds(every, of, count, where, seed)
    assert sorted(name for _, validation in found.folds for name in validation) == names
    for train, validation in found.folds:
        assert train
        assert validation
        assert sorted((*train, *validation)) == names
        assert not {of[name] for name in train} & {of[name] for name in validation}
    assert found == draw_folds(every[::-1], of, count, where, seed)


def test_sites_and_structures_are_spread_as_evenly_as_they_can():
    every = [facts(f"c{n:02}", (1,) if n % 4 else (1, 2)) for n in range(40)]
    sites = {one.name: "AB"[n % 2] for n, one in enumerate(every)}
    found = draw_folds(every, {}, 5, sites)
    held = {one.name: (one.values, sites[one.name]) for one in every}
    for _, validation in found.folds:
        assert Counter(held[name] for name in validation) == {
            (frozenset({1}), "A"): 2, (frozenset({1}), "B"): 4, (frozenset({1, 2}), "A"): 2,
        }  # fmt: skip
    assert "sites and structures" in found.why
    assert draw_folds(every, {}, 5, sites, seed=1).folds != found.folds


@pytest.fixture
def data(tmp_path):
    """Eight scans of six subjects; the second of sub-0 is of another day."""
    rng = np.random.default_rng(0)
    for name in ["sub-0_ses-1", "sub-0_ses-2", *(f"sub-{n}" for n in range(1, 7))]:
        label = np.zeros((8, 8, 8), np.uint8)
        label[2:6, 2:6, 2:6] = 1
        for part, array in (("imagesTr", rng.normal(100, 5, label.shape).astype(np.float32)), ("labelsTr", label)):
            (tmp_path / "data" / part).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "data" / part / f"{name}.nii.gz")
    return tmp_path / "data"


def names(data) -> list[str]:
    return sorted(path.name.removesuffix(".nii.gz") for path in (data / "imagesTr").glob("*.nii.gz"))


def write_splits(data, folds, name="splits_final.json") -> None:
    (data / name).write_text(json.dumps([{"train": list(a), "val": list(b)} for a, b in folds]), encoding="utf-8")


def test_drawn_folds_keep_subjects_and_equal_images_together(data):
    for part in ("imagesTr", "labelsTr"):  # the scan of sub-1 once more, under another name
        shutil.copyfile(data / part / "sub-1.nii.gz", data / part / "extra.nii.gz")
    found = find_folds(data, 4)
    for _, validation in found.folds:
        assert ("sub-0_ses-1" in validation) == ("sub-0_ses-2" in validation)
        assert ("sub-1" in validation) == ("extra" in validation)
    assert found.to_json()["folds"][0] == {"train": list(found.folds[0][0]), "val": list(found.folds[0][1])}


def test_nnunets_file_is_read_and_its_number_of_folds_asked_for(data):
    every = names(data)
    wanted = [(tuple(n for n in every if n not in part), tuple(part)) for part in (every[:2], every[2:5], every[5:])]
    write_splits(data, wanted)
    found = find_folds(data, 3)
    assert found.folds == tuple(wanted)
    assert found.why == "read from splits_final.json"
    with pytest.raises(UsageError, match=r"MS-T165 .*splits_final.json[\s\S]*--folds 3"):
        find_folds(data, 5)


def test_a_subject_or_an_image_on_both_sides_is_refused_by_name(data):
    every = names(data)
    write_splits(data, [(every[1:], every[:1])] * 2)
    with pytest.raises(DatasetError, match="MS-T140") as refused:
        find_folds(data, 2)
    (problem,) = [one for one in refused.value.problems if not one.note]
    assert (problem.code, problem.case) == ("MS-T146", "sub-0_ses-1")
    assert "sub-0_ses-2" in problem.what
    for part in ("imagesTr", "labelsTr"):
        shutil.copyfile(data / part / "sub-1.nii.gz", data / part / "extra.nii.gz")
    every = names(data)
    for first in (["extra", "sub-1"], ["extra"]):  # on both sides of the second fold only, and of the first
        write_splits(data, [([n for n in every if n not in part], part) for part in (first, ["extra"])])
        with pytest.raises(DatasetError) as refused:
            find_folds(data, 2)
        (problem,) = [one for one in refused.value.problems if not one.note]
        assert problem.code == "MS-T145"
        assert {"extra", "sub-1"} == {problem.case, "sub-1" if problem.case == "extra" else "extra"}
        assert "voxel for voxel" in problem.what


@pytest.mark.parametrize(
    ("folds", "code"),
    [
        ([(["sub-1", "sub-2"], ["sub-3"])] * 2, "MS-T147"),
        ([(["sub-1", "nobody"], ["sub-3"])] * 2, "MS-T147"),
        ([(["sub-1", "sub-3"], ["sub-3"])] * 2, "MS-T146"),
    ],
    ids=["cases nowhere", "unknown name", "case on both sides"],
)
def test_a_file_that_cannot_be_used_is_refused(data, folds, code):
    write_splits(data, folds)
    with pytest.raises(DatasetError) as refused:
        find_folds(data, 2)
    assert code in {one.code for one in refused.value.problems}


def test_subjects_and_sites_come_from_a_list(data, tmp_path):
    rows = ["name,image,label,subject,site"]
    for n, name in enumerate(names(data)):
        rows.append(f"{name},data/imagesTr/{name}.nii.gz,data/labelsTr/{name}.nii.gz,P{n // 2},{'AB'[n % 2]}")
    (tmp_path / "cases.csv").write_text("\n".join(rows), encoding="utf-8")
    found = find_folds(tmp_path / "cases.csv", 2)
    assert found.subjects[names(data)[0]] == "P0"
    of = {name: f"P{n // 2}" for n, name in enumerate(names(data))}
    for train, validation in found.folds:
        assert not {of[name] for name in train} & {of[name] for name in validation}
    assert "sites" in found.why


def test_a_fold_that_is_not_there_and_names_that_the_recipe_does_not_know(data):
    found = find_folds(data, 2)
    assert fold_of(found, 1) == found.folds[1]
    for number in (-1, 2):
        with pytest.raises(UsageError, match=r"MS-T165[\s\S]*0 to 1"):
            fold_of(found, number)
    require_names(["a"], ["a", "b"], data)
    with pytest.raises(InputError, match=r"MS-T166[\s\S]*no case c"):
        require_names(["a", "c"], ["a", "b"], data)


def with_sidecars(data, patient_of) -> None:
    """dcm2niix's JSON beside every image."""
    for name in names(data):
        text = json.dumps({"Modality": "MR", "PatientID": patient_of[name]})
        (data / "imagesTr" / f"{name}.json").write_text(text, encoding="utf-8")


@pytest.fixture
def nameless(data):
    """The same scans, whose names say no subject: two of each of four patients, in the order of names."""
    for part in ("imagesTr", "labelsTr"):
        for n, path in enumerate(sorted((data / part).iterdir())):
            path.rename(path.with_name(f"scan_{n}.nii.gz"))
    return data


def test_scans_of_one_patient_id_stay_together_and_only_its_hash_is_told(nameless):
    patient_of = {name: f"HOSP-{n // 2}" for n, name in enumerate(names(nameless))}
    with_sidecars(nameless, patient_of)
    found = find_folds(nameless, 4, salt=b"0" * 32)
    for train, validation in found.folds:
        assert len(validation) == 2
        assert not {patient_of[name] for name in train} & {patient_of[name] for name in validation}
    assert "4 subjects" in found.why
    assert len(set(found.subjects.values())) == 4
    assert all(subject.startswith("patient-") for subject in found.subjects.values())
    assert "HOSP" not in json.dumps(found.to_json())
    assert find_folds(nameless, 4, salt=b"1" * 32).folds == found.folds  # drawn by the seed, whatever the salt
    with pytest.raises(UsageError, match=r"MS-T165 .*5 folds of 4 subjects"):
        find_folds(nameless, 5)


def test_one_patient_id_on_both_sides_of_a_file_is_refused_without_telling_it(nameless):
    every = names(nameless)
    with_sidecars(nameless, {name: f"HOSP-{n // 2}" for n, name in enumerate(every)})
    write_splits(nameless, [(every[1:], every[:1])] * 2)
    with pytest.raises(DatasetError, match="MS-T140") as refused:
        find_folds(nameless, 2, salt=b"0" * 32)
    (problem,) = [one for one in refused.value.problems if not one.note]
    assert (problem.code, problem.case) == ("MS-T146", "scan_0")
    assert "scan_1" in problem.what
    assert "HOSP" not in str(problem.row())


def test_a_list_and_bids_say_more_than_a_patient_id(data, tmp_path):
    with_sidecars(data, {name: f"HOSP-{n // 4}" for n, name in enumerate(names(data))})
    assert len(set(find_folds(data, 2, salt=b"0" * 32).subjects.values())) == 7  # by BIDS
    rows = ["name,image,label,subject"]
    rows += [f"{name},data/imagesTr/{name}.nii.gz,data/labelsTr/{name}.nii.gz,{name[:5]}" for name in names(data)]
    (tmp_path / "cases.csv").write_text("\n".join(rows), encoding="utf-8")
    assert set(find_folds(tmp_path / "cases.csv", 2, salt=b"0" * 32).subjects.values()) == {
        f"sub-{n}" for n in range(7)
    }
