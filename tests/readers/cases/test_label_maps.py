from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from medseg.errors import GeometryError, InputError
from medseg.readers.cases.label_load import load_label_map
from medseg.readers.cases.label_maps import as_one_case, find_label_maps


def put(path, array=None, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.ones((3, 4, 5), np.uint8) if array is None else array
    nib.Nifti1Image(array, np.eye(4) if affine is None else affine).to_filename(path)
    return path


def shown(path):
    return {m.name: [f.name for f in m.files] for m in find_label_maps(path)}


def test_a_predict_folder_with_its_names(tmp_path):
    for case in ("b", "a"):
        put(tmp_path / case / "segmentation.nii.gz")
        put(tmp_path / case / "uncertainty_entropy.nii.gz")
        rows = [{"structure": "liver", "value": 5}]
        (tmp_path / case / "record.json").write_text(json.dumps({"measurements": rows}))
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed" / "record.json").write_text("{}")
    found = find_label_maps(tmp_path)
    assert [(m.name, [f.name for f in m.files]) for m in found] == [(c, ["segmentation.nii.gz"]) for c in "ab"]
    assert found[0].labels.by_name["liver"].value == 5


def test_a_flat_predict_folder(tmp_path):
    put(tmp_path / "a.nii.gz")
    put(tmp_path / "details" / "a" / "segmentation.nii.gz")
    assert shown(tmp_path) == {"a": ["a.nii.gz"]}


def test_nnunet_predictions_with_their_names(tmp_path):
    put(tmp_path / "case_1.nii.gz")
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    (found,) = find_label_maps(tmp_path)
    assert {x.name: x.region for x in found.labels} == {"whole": (1, 2), "core": (2,)}


def test_msd_references(tmp_path):
    put(tmp_path / "labelsTr" / "a.nii.gz")
    put(tmp_path / "imagesTr" / "a.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "Anterior"}}))
    for path in (tmp_path, tmp_path / "labelsTr"):
        (found,) = find_label_maps(path)
        assert (found.name, found.files[0].parent.name, found.labels.by_value[1].name) == ("a", "labelsTr", "Anterior")


def test_label_maps_beside_their_images(tmp_path):
    for name in ("a", "a_seg", "b-label"):
        put(tmp_path / f"{name}.nii.gz")
    assert shown(tmp_path) == {"a": ["a_seg.nii.gz"], "b": ["b-label.nii.gz"]}


def test_a_mask_a_structure(tmp_path):
    left, right = np.zeros((2, 3, 4, 5), np.uint8)
    left[0], right[2] = 1, 7
    put(tmp_path / "s1" / "kidney_left.nii.gz", left)
    put(tmp_path / "s1" / "kidney_right.nii.gz", right)
    (found,) = find_label_maps(tmp_path)
    volume = load_label_map(found)
    assert [(x.value, x.name) for x in volume.labels] == [(1, "kidney_left"), (2, "kidney_right")]
    assert (volume.array == (left > 0) + 2 * (right > 0)).all()
    assert as_one_case(tmp_path / "s1").name == "s1"
    assert as_one_case(tmp_path) is None


def test_masks_that_overlap_are_refused(tmp_path):
    for name in ("a", "b"):
        put(tmp_path / "s1" / f"{name}.nii.gz")
    (found,) = find_label_maps(tmp_path)
    with pytest.raises(InputError, match=r"MS-C121 .*b\.nii\.gz: the masks 'a' and 'b' overlap in 60 voxels"):
        load_label_map(found)


def test_masks_of_two_spaces_are_refused(tmp_path):
    put(tmp_path / "s1" / "a.nii.gz", np.zeros((3, 4, 5), np.uint8))
    put(tmp_path / "s1" / "b.nii.gz", affine=np.diag([2, 2, 2, 1]))
    (found,) = find_label_maps(tmp_path)
    with pytest.raises(GeometryError, match="MS-G102"):
        load_label_map(found)


def test_a_list(tmp_path):
    put(tmp_path / "maps" / "x.nii.gz")
    (tmp_path / "list.csv").write_text("name,label\nscan 7,maps/x.nii.gz\n")
    assert shown(tmp_path / "list.csv") == {"scan 7": ["x.nii.gz"]}
    (tmp_path / "list.csv").write_text("name,label\nscan 7,\n")
    with pytest.raises(InputError, match=r"MS-C103.*names no label map"):
        find_label_maps(tmp_path / "list.csv")


def test_two_of_one_name(tmp_path):
    put(tmp_path / "a.nii.gz")
    put(tmp_path / "A" / "segmentation.nii.gz")
    with pytest.raises(InputError, match=r"MS-C102 .*two label maps are called"):
        find_label_maps(tmp_path)


def test_nothing(tmp_path):
    with pytest.raises(InputError, match=r"MS-C120 .*no label map was found"):
        find_label_maps(tmp_path)
    with pytest.raises(InputError, match="MS-F101"):
        find_label_maps(tmp_path / "absent")


def test_real_layouts(data):
    assert len(find_label_maps(data("hippocampus"))) == 200
    apart = as_one_case(data("totalseg") / "example_seg_fast")
    volume = load_label_map(apart)
    whole = load_label_map(find_label_maps(data("totalseg") / "example_seg_fast.nii.gz")[0])
    assert len(volume.labels) == len(apart.files) > 100
    assert (volume.array > 0).sum() == (whole.array > 0).sum() > 0


def test_a_dicom_segmentation(data, tmp_path):
    (file,) = list(data("dicom").rglob("seg_image_ct_binary.dcm"))
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "seg.dcm").write_bytes(file.read_bytes())
    (found,) = find_label_maps(tmp_path)
    assert (found.name, load_label_map(found).array.max()) == ("case", 1)


def test_a_folder_of_medseg_predict_with_its_views(tmp_path):
    """The image, the same labels for 3D Slicer and uncertainty maps lie beside the label map."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for file in (
            "segmentation.nii.gz",
            "segmentation.seg.nrrd",
            "image.nii.gz",
            "uncertainty_entropy.nii.gz",
            "samples.seq.nrrd",
            "record.json",
        ):
            (tmp_path / name / file).write_bytes(b"{}")
    for root, names in ((tmp_path, ["a", "b"]), (tmp_path / "a", ["a"])):
        found = find_label_maps(root)
        assert [m.name for m in found] == names
        assert {m.files[0].name for m in found} == {"segmentation.nii.gz"}
