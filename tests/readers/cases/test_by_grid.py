"""Label maps whose names name no image go to the image on whose grid they lie, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK

from medseg.errors import InputError
from medseg.readers.cases import find_cases
from medseg.readers.open import grid_of, read
from medseg.writers.nifti import write_nifti


def put(folder, name, shape, origin=(0.0, 0.0, 0.0)):
    affine = np.eye(4)
    affine[:3, 3] = origin
    write_nifti(folder / f"{name}.nii.gz", np.zeros(shape, np.uint8), affine)


def test_a_stray_goes_to_the_one_image_on_its_grid(tmp_path):
    put(tmp_path, "exam_ct", (4, 5, 6))
    put(tmp_path, "exam_small", (4, 5, 3))
    put(tmp_path, "exam_seg", (4, 5, 3))
    put(tmp_path, "exam_mask", (4, 5, 6))
    found = {case.name: case.label.name for case in find_cases(tmp_path, need_labels=True)}
    assert found == {"exam_ct": "exam_mask.nii.gz", "exam_small": "exam_seg.nii.gz"}


@pytest.mark.parametrize(("shape", "origin"), [((4, 5, 6), (0.0, 0.0, 0.0)), ((4, 5, 6), (0.0, 0.0, 9.0))])
def test_two_images_on_its_grid_or_none_leave_it_nobodys(tmp_path, shape, origin):
    put(tmp_path, "exam_a", (4, 5, 6))
    put(tmp_path, "exam_b", (4, 5, 6))
    put(tmp_path, "exam_mask", shape, origin)
    with pytest.raises(InputError, match=r"MS-C108.*exam_mask\.nii\.gz"):
        find_cases(tmp_path)


@pytest.mark.parametrize("stray", ["p3_to_label", "c_seg", "mask_3", "study_3_seg", "study_3_to_label"])
def test_equal_grids_of_two_examinations_are_chance(tmp_path, stray):
    put(tmp_path, "study_1", (4, 5, 6))
    put(tmp_path, "study_2", (4, 5, 7))
    put(tmp_path, stray, (4, 5, 6))
    with pytest.raises(InputError, match=f"MS-C108.*{stray}"):
        find_cases(tmp_path)


def test_patients_on_equal_grids_are_told_apart_by_their_names(tmp_path):
    for name in ("p1_ct", "p1_seg", "p2_ct", "p2_seg"):
        put(tmp_path, name, (4, 5, 6))
    found = {case.name: case for case in find_cases(tmp_path)}
    assert {name: case.label.name for name, case in found.items()} == {
        "p1_ct": "p1_seg.nii.gz",
        "p2_ct": "p2_seg.nii.gz",
    }
    assert found["p1_ct"].by_grid == (tmp_path / "p1_seg.nii.gz",)


def test_an_unreadable_one_stays_nobodys(tmp_path):
    put(tmp_path, "exam_a", (4, 5, 6))
    put(tmp_path, "exam_b", (4, 5, 7))
    (tmp_path / "exam_mask.nii.gz").write_bytes(b"x")
    with pytest.raises(InputError, match="MS-C108"):
        find_cases(tmp_path)


@pytest.mark.parametrize("end", ["nii", "nii.gz", "nrrd", "mha", "hdr"])
def test_a_grid_from_the_header_is_that_of_the_whole_file(tmp_path, end):
    image = SimpleITK.GetImageFromArray(np.zeros((3, 4, 5), np.int16))
    image.SetSpacing((0.5, 2.0, 3.0))
    image.SetOrigin((7.0, -8.0, 9.0))
    path = tmp_path / f"a.{end}"
    SimpleITK.WriteImage(image, str(path))
    found, whole = grid_of(path), read(path).grid
    assert found.shape == whole.shape == (5, 4, 3)
    assert np.array_equal(found.affine, whole.affine)


def test_layers_of_a_slicer_segmentation_are_no_axis_of_its_grid(tmp_path):
    path = tmp_path / "a.seg.nrrd"
    head = (
        "NRRD0004\ntype: unsigned char\ndimension: 4\nsizes: 2 3 4 5\nkinds: list domain domain domain\n"
        "space: left-posterior-superior\nspace directions: none (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\n"
        "encoding: raw\nSegment0_ID:=Segment_1\nSegment0_Layer:=0\nSegment0_LabelValue:=1\n\n"
    )
    path.write_bytes(head.encode() + bytes(120))
    assert grid_of(path).shape == (3, 4, 5)
    assert np.array_equal(grid_of(path).affine, np.diag([-1.0, -1.0, 1.0, 1.0]))


def test_the_tests_of_totalsegmentator(data):
    cases = [case for case in find_cases(data("totalseg")) if case.name.startswith("example_ct")]
    assert {case.name: sorted(one.name for one in case.maps) for case in cases} == {
        "example_ct": ["example_seg_fast_force_split.nii.gz"],
        "example_ct_sm": ["example_seg.nii.gz", "example_seg_fast.nii.gz", "example_seg_fast_body_seg.nii.gz"],
    }
