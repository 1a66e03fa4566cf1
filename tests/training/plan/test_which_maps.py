"""Folders as they lie on a researcher's disk: several label maps to an image, folders of label maps alone."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.readers.cases import find_cases
from medseg.training.datalist import datalist
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


def test_masks_of_structures_beside_an_image_are_passed_over_with_a_note(maker):
    root = put(maker, "a/ct_a", "a/masks/liver", "a/masks/spleen", "a/ct_a_seg", "b/ct_b", "b/ct_b_seg")
    source = find_source(root)
    assert [case.label.name for case in source.cases] == ["ct_a_seg.nii.gz", "ct_b_seg.nii.gz"]
    assert told(source) == [("MS-T142", "", True)]
    assert source.problems[0].file == str(root / "a" / "masks")


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
