"""Folders as they lie on a researcher's disk: several label maps to an image, folders of label maps alone."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.readers.cases import find_cases
from medseg.training.datalist import datalist, named_cases, told_of
from medseg.training.folds import find_folds, require_names
from medseg.training.plan.plan import plan_bundle
from medseg.training.plan.sources import find_source
from medseg.training.plan.which_maps import map_choices


def put(maker, *names):
    """Files right in the dataset's folder, or in folders in it."""
    rng = np.random.default_rng(0)
    for name in names:
        block = np.zeros((16, 16, 16), np.uint8)
        block[4:10, 4:10, 4:10] = 1
        is_map = any(word in name for word in ("seg", "mask", "lesions"))
        array = block if is_map else (block * 50 + rng.normal(0, 5, block.shape)).astype(np.float32)
        maker.save(array, maker.root / f"{name}.nii.gz")
    return maker.root


def told(source):
    return [(problem.code, problem.case, problem.note) for problem in source.problems]


def test_one_kind_is_planned_with_and_trained_with_and_said(maker, tmp_path):
    root = put(maker, "a", "a_seg-manual", "a_seg-auto", "b", "b_seg-manual", "c", "c_lesion_seg", "c_cord_seg")
    source = find_source(root)
    assert [(case.name, case.label.name) for case in source.cases] == [
        ("a", "a_seg-manual.nii.gz"),
        ("b", "b_seg-manual.nii.gz"),
    ]
    assert told(source) == [("MS-T141", "c", True)]
    (choice,) = map_choices(source.cases, source.kind)
    assert (choice.value, "a_seg-auto.nii.gz" in choice.why) == ("seg_manual", True)
    rows = [row for part in ("train", "val") for row in datalist(str(root), part, channels=["image"])]
    assert sorted(row["label"].rsplit("/", 1)[-1] for row in rows) == ["a_seg-manual.nii.gz", "b_seg-manual.nii.gz"]
    made = plan_bundle(root, tmp_path / "planned", measure=False)
    assert made.choices[0] == choice
    assert [(note.code, note.case) for note in made.notes] == [("MS-T141", "c")]
    assert "c_cord_seg.nii.gz" in (made.bundle / "docs" / "plan.md").read_text(encoding="utf-8")


def test_nothing_is_guessed_where_two_kinds_are_as_common(maker):
    source = find_source(put(maker, "a", "a_seg", "a_seg-old", "b", "b_seg", "b_seg-old"))
    assert told(source) == [("MS-T141", "a", False), ("MS-T141", "b", False)]
    assert "a_seg-old.nii.gz, a_seg.nii.gz" in source.problems[0].what
    assert map_choices(source.cases, source.kind) == []


def test_a_folder_of_label_maps_alone_beside_the_patients_is_passed_over(maker):
    root = put(maker, "mni/p1/FLAIR", "mni/p1/T1", "mni/p1/lesions", "mni/p2/FLAIR", "mni/p2/T1", "mni/p2/lesions")
    put(maker, "lesion_masks/p1_mask", "lesion_masks/p9_mask")
    source = find_source(root)
    assert [(case.name, len(case.images)) for case in source.cases] == [("p1", 2), ("p2", 2)]
    assert source.channels == ("FLAIR", "T1")
    assert told(source) == [("MS-T142", "", True)]
    assert source.problems[0].file == str(root / "lesion_masks")


def test_a_patient_without_images_is_a_fault(maker):
    root = put(maker, "p1/FLAIR", "p1/T1", "p1/lesions", "p2/FLAIR", "p2/T1", "p2/lesions", "p3/lesions")
    (problem,) = find_source(root).problems
    assert (problem.code, problem.note, problem.file) == ("MS-T141", False, str(root / "p3" / "lesions.nii.gz"))


def test_two_files_of_the_kind_are_a_fault(maker):
    root = put(maker, "a", "a_seg", "b", "b_seg")
    (root / "a_seg.nii").write_bytes(b"x")
    source = find_source(root)
    assert told(source) == [("MS-T141", "a", False)]
    assert "2 label maps of one kind (a_seg.nii, a_seg.nii.gz)" in source.problems[0].what


def test_a_label_map_told_by_its_grid_is_said(maker):
    root = put(maker, "exam_ct")
    maker.save(np.ones((4, 4, 4), np.float32), root / "exam_small.nii.gz")
    maker.save(np.ones((4, 4, 4), np.uint8), root / "exam_seg.nii.gz")
    put(maker, "exam_mask")
    source = find_source(root)
    assert [case.label.name for case in source.cases] == ["exam_mask.nii.gz", "exam_seg.nii.gz"]
    (choice,) = map_choices(source.cases, source.kind)
    assert choice.topic == "pairs by grid"


@pytest.mark.parametrize("masks", [("liver", "spleen"), ("liver", "body_mask")])
def test_masks_of_structures_beside_an_image_are_passed_over_with_a_note(maker, masks):
    names = [name for p in "ab" for name in (f"{p}/ct_{p}", f"{p}/ct_{p}_seg", *(f"{p}/masks/{one}" for one in masks))]
    root = put(maker, *names)
    source = find_source(root)
    assert [case.label.name for case in source.cases] == ["ct_a_seg.nii.gz", "ct_b_seg.nii.gz"]
    assert told(source) == [("MS-T142", "", True)] * 2
    assert {problem.file for problem in source.problems} == {str(root / p / "masks") for p in "ab"}


def test_an_only_label_map_of_another_kind_is_taken_with_a_note(maker):
    source = find_source(put(maker, "a", "a_cord_seg", "a_gm_seg", "b", "b_cord_seg", "c", "c_lesion_seg"))
    assert [case.name for case in source.cases] == ["a", "b", "c"]
    (problem,) = source.problems
    assert (problem.code, problem.case, problem.note) == ("MS-T141", "c", True)
    assert "cord_seg: c_lesion_seg.nii.gz" in problem.what


def test_training_tells_what_it_chose_too(maker):
    root = put(maker, "a", "a_seg-manual", "a_seg-auto", "b", "b_seg-manual", "c", "c_lesion_seg", "c_cord_seg")
    lines = told_of(str(root), ["image"])
    assert [line.split(":")[0] for line in lines] == ["label maps", "c"]
    assert told_of(str(root), []) == []


def test_pairs_that_a_list_or_their_names_say_are_no_pairs_by_grid(maker):
    root = put(maker, "p1/p1_ct", "p1/p1_seg", "p2/p2_ct", "p2/p2_seg")
    (root / "cases.csv").write_text("name,image,label\none,p1/p1_ct.nii.gz,p1/p1_seg.nii.gz\n", encoding="utf-8")
    for place in (root, root / "cases.csv"):
        assert map_choices(find_source(place).cases, None) == []


def test_what_lies_beside_the_one_dataset_is_said_and_its_split_counts(maker):
    maker.case("a", 0)
    maker.case("b", 1)
    around = maker.root.parent / "around"
    around.mkdir()
    maker.root = maker.root.rename(around / "set")
    maker.split(["a"], ["b"])
    (around / "docs").mkdir()
    (around / "docs" / "readme.txt").write_text("x", encoding="utf-8")
    maker.save(np.zeros((4, 4, 4), np.float32), around / "others" / "x.nii.gz")
    source = find_source(around)
    assert [case.name for case in source.cases] == ["a", "b"]
    assert [(problem.file, problem.note) for problem in source.problems] == [(str(around / "others"), True)]
    assert source.split_folder == around / "set"


def test_folds_and_held_out_sites_know_cases_by_their_images_names(maker):
    root = put(maker, *(name for n in range(4) for name in (f"s{n}", f"s{n}_seg-manual")), "s0_seg-auto")
    known = named_cases(str(root), ["image"])
    assert list(known) == [f"s{n}" for n in range(4)]
    folds = find_folds(root, 2, ["image"])
    require_names([name for train, val in folds.folds for name in (*train, *val)], list(known), root)
    assert len(datalist(str(root), "val", list(known), channels=["image"])) == 4


def test_dicom_right_in_the_folder_is_not_left_for_a_folder_in_it(maker):
    root = put(maker, "scout/p1", "scout/p1_seg", "masks/p1_mask")
    (root / "1.dcm").write_bytes(bytes(128) + b"DICM")
    assert find_source(root).inner is None


@pytest.mark.parametrize(
    ("names", "cases"),
    [
        (("atlas", "labelled/a", "labelled/a_seg", "labelled/b", "labelled/b_seg"), ["a", "b"]),
        (("labelled/a", "labelled/a_seg", "batch2/c", "batch2/c_seg"), ["a", "c"]),
        (("healthy/a", "healthy/a_seg", "lesions/b", "lesions/b_seg"), ["a", "b"]),
        ([f"lesions_0{n}/{name}" for n in (1, 2) for name in ("FLAIR", "T1", "seg")], ["lesions_01", "lesions_02"]),
        ([f"{p}/{name}" for p in ("p1", "p2_seg") for name in ("FLAIR", "T1", "seg")], ["p1", "p2_seg"]),
    ],
)
def test_folders_called_like_label_maps_that_hold_images_count(maker, names, cases):
    source = find_source(put(maker, *names))
    assert [case.name for case in source.cases] == cases
    assert [problem.case for problem in source.problems if not problem.note] == (["atlas"] if "atlas" in names else [])


def test_predict_loses_no_scan_whatever_its_folder_is_called(maker):
    root = put(maker, "a", "to_label/c", "masks/d")
    assert [case.name for case in find_cases(root)] == ["a", "c", "d"]


def test_real_folders_are_planned_as_they_are(data):
    cord = find_source(data("spinal_cord"))
    assert [(case.name, case.label.name) for case in cord.cases] == [
        ("t1w", "t1w_seg-manual.nii.gz"),
        ("t2", "t2_seg-manual.nii.gz"),
    ]
    assert told(cord) == [("MS-T141", "t2_fake_lesion", True)]
    whole = find_source(data("totalseg"))
    assert [case.label.name for case in whole.cases] == [
        "example_seg_fast_force_split.nii.gz",
        "example_seg_fast.nii.gz",
    ]
    assert (whole.channels, told(whole)) == (("image",), [("MS-T142", "", True)] * 4)
    lesions = find_source(data("open_ms"))
    assert [case.name for case in lesions.cases] == ["patient07", "patient26"]
    assert told(lesions) == [("MS-T142", "", True)]
    assert [len(find_source(data("vertebrae_mri")).cases), told(find_source(data("vertebrae_mri")))] == [37, []]
