from __future__ import annotations

import pytest

from medseg.errors import InputError, UsageError
from medseg.workflows.evaluation.pairs import Person, groups, pair_up, people


def put(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")
    return folder


def test_folders_are_paired_by_case_name(tmp_path):
    pred = put(tmp_path / "p", "b_seg.nii.gz", "C.nii.gz", "z.nii.gz")
    ref = put(tmp_path / "r", "a.nii.gz", "b.nii.gz", "c.nrrd")
    found = pair_up(pred, ref)
    assert [(p.name, p.pred and p.pred.files[0].name) for p in found.pairs] == [
        ("a", None),
        ("b", "b_seg.nii.gz"),
        ("c", "C.nii.gz"),
    ]
    assert (found.missing, found.extra) == (("a",), ("z",))


def test_two_files_are_a_pair_whatever_they_are_called(tmp_path):
    put(tmp_path, "mine.nii.gz", "theirs.nrrd")
    (pair,) = pair_up(tmp_path / "mine.nii.gz", tmp_path / "theirs.nrrd").pairs
    assert (pair.name, pair.pred.name) == ("theirs", "mine")


def test_a_folder_of_masks_against_one_file(tmp_path):
    masks = put(tmp_path / "masks", "liver.nii.gz", "spleen.nii.gz")
    put(tmp_path, "whole.nii.gz")
    for pred, ref in ((masks, tmp_path / "whole.nii.gz"), (tmp_path / "whole.nii.gz", masks)):
        (pair,) = pair_up(pred, ref).pairs
        assert sorted(len(side.files) for side in (pair.pred, pair.ref)) == [1, 2]


def test_one_file_against_a_folder_of_cases_is_paired_by_name(tmp_path):
    pred = put(tmp_path / "p", "b.nii.gz") / "b.nii.gz"
    ref = tmp_path / "r"
    for case in ("a", "b"):
        put(ref / case, "segmentation.nii.gz")
    found = pair_up(pred, ref)
    assert (found.missing, found.pairs[1].pred.name) == (("a",), "b")


def test_no_name_in_common(tmp_path):
    pred, ref = put(tmp_path / "p", "x.nii.gz", "y.nii.gz"), put(tmp_path / "r", "a.nii.gz", "b.nii.gz")
    with pytest.raises(InputError, match=r"MS-E101 .*predictions are called x, y, references a, b"):
        pair_up(pred, ref)


def test_people(tmp_path):
    path = tmp_path / "cases.csv"
    path.write_text("Case,subject,session,Site\na,p1,1,Oslo\nB,p1,2,Oslo\nc,p2,1,\nunused,p3,1,Rome\n")
    found = people(path, ("a", "b", "c"))
    assert found["b"] == Person("p1", "2", {"Site": "Oslo"})
    assert groups(found, "Site", path) == {"a": "Oslo", "b": "Oslo", "c": "(not given)"}
    assert groups(found, "subject", path)["c"] == "p2"
    with pytest.raises(UsageError, match=r"MS-U164 .*no column 'site'(?s:.*)name one of: Site"):
        groups(found, "site", path)
    with pytest.raises(UsageError, match=r"MS-U163 .*1 of 2 cases are not in this list, such as d"):
        people(path, ("a", "d"))


def test_people_without_a_list():
    found = people(None, ("a",))
    assert found == {"a": Person("a")}
    with pytest.raises(UsageError, match="MS-U164 --group-by needs a list of cases"):
        groups(found, "site", None)


def test_a_list_without_names(tmp_path):
    path = tmp_path / "cases.csv"
    path.write_text("subject,site\np1,Oslo\n")
    with pytest.raises(UsageError, match=r"MS-U163 .*names no case"):
        people(path, ("a",))
