"""Every layout that predict and evaluate understand, and what is missing in it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from medseg.errors import InputError
from medseg.training.datalist import datalist
from medseg.training.plan.plan import is_plain
from medseg.training.plan.sources import channels_seen, find_source


@pytest.fixture
def two(maker):
    maker.case("a", 0)
    maker.case("b", 1)
    return maker


def names(source):
    return [case.name for case in source.cases]


def test_images_and_labels_in_their_folders(two):
    source = find_source(two.root)
    assert names(source) == ["a", "b"]
    assert source.channels == ("image",)
    assert is_plain(source)
    assert source.root == two.root
    assert find_source(two.root / "imagesTr").root == two.root.resolve()


def test_msds_list_with_its_names_and_nnunets_without_a_list(two):
    rows = [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in "ab"]
    path = two.say(
        modality={"0": "MRI"}, labels={"0": "background", "1": "x"}, training=rows, test=["./imagesTs/c.nii.gz"]
    )
    for where in (two.root, path):
        source = find_source(where)
        assert names(source) == ["a", "b"]
        assert source.channels == ("MRI",)
        assert source.said["labels"]["1"] == "x"
    two.say(channel_names={"0": "CT"}, labels={"background": 0, "x": 1}, numTraining=2, file_ending=".nii.gz")
    assert find_source(two.root).channels == ("CT",)
    assert names(find_source(two.root)) == ["a", "b"]


def test_a_list_names_its_files(two, tmp_path):
    listed = tmp_path / "data" / "cases.csv"
    listed.write_text(
        "name,image,label\none,imagesTr/a.nii.gz,labelsTr/a.nii.gz\ntwo,imagesTr/b.nii.gz,\n", encoding="utf-8"
    )
    source = find_source(listed)
    assert names(source) == ["one"]
    assert [(p.code, p.case) for p in source.problems] == [("MS-T141", "two")]
    assert not is_plain(source)


def test_case_folders_with_an_image_of_the_same_name_are_cases_by_their_folders(maker):
    """As KiTS: `case_00000/imaging.nii.gz` and `segmentation.nii.gz`."""
    for n in range(3):
        place = maker.root / f"case_{n:05d}"
        maker.save(np.ones((4, 4, 4), np.float32), place / "imaging.nii.gz")
        maker.save(np.ones((4, 4, 4), np.uint8), place / "segmentation.nii.gz")
    source = find_source(maker.root)
    assert names(source) == ["case_00000", "case_00001", "case_00002"]
    assert source.channels == ("imaging",)
    assert source.problems == ()
    named = datalist(str(maker.root), "train", ["case_00002"], channels=["imaging"])
    assert [row["label"] for row in named] == [
        str(maker.root / f"case_0000{n}" / "segmentation.nii.gz") for n in (0, 1)
    ]


def test_one_folder_with_an_image_too_many_makes_no_channels_for_all_others(maker):
    image = np.ones((4, 4, 4), np.float32)
    for n in range(3):
        maker.save(image, maker.root / f"p{n}" / f"ct_{n}.nii.gz")
    maker.save(image, maker.root / "p0" / "old.nii.gz")
    maker.save(image, maker.root / "p1" / "._ct_1.nii.gz")  # as macOS leaves it
    assert channels_seen(maker.root) == ()
    for n in range(3):
        maker.save(image, maker.root / f"q{n}" / "ct.nii.gz")
        maker.save(image, maker.root / f"q{n}" / "pet.nii.gz")
    assert channels_seen(maker.root) == ("ct", "pet")
    for n in range(8):
        maker.save(image, maker.root / f"r{n}" / "ct.nii.gz")
    assert channels_seen(maker.root) == ("ct",)


def test_channels_by_number_and_by_name(maker):
    maker.case("a", 0, channels=3)
    maker.case("b", 1, channels=3)
    assert find_source(maker.root).channels == ("channel 0", "channel 1", "channel 2")
    assert find_source(maker.root, ("x", "y", "z")).channels == ("x", "y", "z")
    assert [len(case.images) for case in find_source(maker.root).cases] == [3, 3]


def test_a_folder_around_the_one_dataset(two):
    source = find_source(two.root.parent)
    assert names(source) == ["a", "b"]
    assert not is_plain(source)


def test_test_images_are_not_looked_at(two):
    two.save(np.zeros((4, 4, 4), np.float32), two.root / "imagesTs" / "c.nii.gz")
    source = find_source(two.root)
    assert names(source) == ["a", "b"]
    assert source.problems == ()


def test_refusals_of_the_whole_are_a_row_and_nothing_is_an_error(tmp_path, two):
    with pytest.raises(InputError, match="MS-T103"):
        find_source(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    assert [p.code for p in find_source(tmp_path / "empty").problems] == ["MS-C101"]
    broken = tmp_path / "dataset.json"
    broken.write_text("{", encoding="utf-8")
    assert [p.code for p in find_source(broken).problems] == ["MS-C104"]


def test_the_data_list_of_training_is_the_same(two, tmp_path):
    plain = datalist(str(two.root), "train", ["b"])
    named = datalist(str(two.root), "train", ["b"], channels=["image"])
    assert plain == named
    assert [len(datalist(str(two.root), part, ["b"], at_least=5)) for part in ("train", "val")] == [5, 5]
    listed = tmp_path / "cases.json"
    rows = [{"name": "one", "image": plain[0]["image"], "label": plain[0]["label"]}]
    rows.append({"name": "two", **datalist(str(two.root), "val", ["b"])[0]})
    listed.write_text(json.dumps(rows), encoding="utf-8")
    assert datalist(str(listed), "train", ["two"], channels=["image"]) == plain


def test_the_data_list_names_what_is_missing(two):
    (two.root / "labelsTr" / "a.nii.gz").unlink()
    with pytest.raises(InputError, match=r"MS-T102 .*a\.nii\.gz"):
        datalist(str(two.root), "train", channels=["image"])
