"""Folders as they lie on a researcher's disk: several label maps to an image, folders of label maps alone."""

from __future__ import annotations

import numpy as np

from medseg.training.datalist import datalist
from medseg.training.plan.plan import plan_bundle
from medseg.training.plan.sources import find_source
from medseg.training.plan.which_maps import kind_choice


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
    (choice,) = kind_choice(source.cases)
    assert (choice.value, "a_seg-auto.nii.gz" in choice.why) == ("a_seg-manual.nii.gz", True)
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
    assert kind_choice(source.cases) == []


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


def test_a_folder_of_label_maps_in_that_of_the_images(maker):
    root = put(maker, "a", "b", "segmentations/a", "segmentations/b")
    assert [case.label.parent.name for case in find_source(root).cases] == ["segmentations"] * 2


def test_masks_of_structures_beside_an_image_are_no_scans(maker):
    root = put(maker, "a/ct_a", "a/masks/liver", "a/masks/spleen", "a/ct_a_seg", "b/ct_b", "b/ct_b_seg")
    source = find_source(root)
    assert [case.label.name for case in source.cases] == ["ct_a_seg.nii.gz", "ct_b_seg.nii.gz"]
    assert told(source) == []


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
    assert (whole.channels, told(whole)) == (("image",), [])
    lesions = find_source(data("open_ms"))
    assert [case.name for case in lesions.cases] == ["patient07", "patient26"]
    assert told(lesions) == [("MS-T142", "", True)]
    assert [len(find_source(data("vertebrae_mri")).cases), told(find_source(data("vertebrae_mri")))] == [37, []]
