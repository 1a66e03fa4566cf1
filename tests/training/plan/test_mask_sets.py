"""A folder a case with a mask a structure: found by names, merged voxel by voxel, planned, and refused where it is unclear."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from medseg.errors import InputError, OutputError
from medseg.readers.nifti import read_nifti
from medseg.training.datalist import datalist
from medseg.training.plan.mask_merge import merge_masks
from medseg.training.plan.mask_sets import find_mask_sets, mask_folder, masks_in
from medseg.training.plan.plan import plan_bundle
from medseg.training.plan.problems import DatasetError

NAMES = ("kidney_left", "kidney_right", "rib_2", "rib_10")
SHAPE = (24, 24, 24)


def masks():
    """Four blocks apart from each other."""
    found = {name: np.zeros(SHAPE, np.uint8) for name in NAMES}
    found["kidney_left"][2:8, 4:14, 4:14] = 1
    found["kidney_right"][14:20, 4:14, 4:14] = 1
    found["rib_2"][4:18, 16:18, 4:8] = 1
    found["rib_10"][4:18, 16:18, 12:16] = 1
    return found


def written(maker, name, n=0, held=None, folder="segmentations"):
    place = maker.root / name
    image = np.random.default_rng(n).normal(100, 10, SHAPE).astype(np.float32)
    maker.save(image, place / "ct.nii.gz")
    for structure, mask in (masks() if held is None else held).items():
        maker.save(mask, place / folder / f"{structure}.nii.gz")
    return place


@pytest.fixture
def three(maker):
    for n in range(3):
        written(maker, f"s{n:04d}", n)
    return maker


def merged(folder, name):
    return np.asarray(nib.load(folder / "labels" / f"{name}.nii.gz").dataobj)


def faults(maker, tmp_path):
    with pytest.raises(DatasetError) as caught:
        plan_bundle(maker.root, tmp_path / "planned", measure=False)
    assert not (tmp_path / "planned").exists()
    assert not (tmp_path / "planned_labels").exists()
    return [problem for problem in caught.value.problems if not problem.note]


def made(root, *files):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


@pytest.mark.parametrize("name", ["segmentations", "masks", "Labels", "seg_fast"])
def test_the_only_folder_that_is_called_label_maps(tmp_path, name):
    made(tmp_path, "ct.nii.gz", f"{name}/liver.nii.gz", f"{name}/.hidden.nii.gz", f"{name}/notes.txt", f"{name}/a.img")
    made(tmp_path, f"{name}/a.hdr", ".git/config")
    found = mask_folder(tmp_path)
    assert found == tmp_path / name
    assert [file.name for file in masks_in(found)] == ["a.hdr", "liver.nii.gz"]


@pytest.mark.parametrize(
    "files",
    [
        ("ct.nii.gz",),
        ("ct.nii.gz", "others/liver.nii.gz"),
        ("ct.nii.gz", "segmentations/readme.txt"),
        ("ct.nii.gz", "segmentations/liver.nii.gz", "more/a.nii.gz"),
        ("ct.nii.gz", "ct_seg.nii.gz", "segmentations/liver.nii.gz"),
    ],
)
def test_nothing_is_guessed_where_it_is_not_plain(tmp_path, files):
    assert mask_folder(made(tmp_path, *files)) is None


def test_every_structure_keeps_its_value_and_its_name_also_in_training(three, tmp_path, parts):
    found = plan_bundle(three.root, tmp_path / "kidneys_segmentation", measure=False)
    assert found.problems == ()
    assert found.data == tmp_path / "kidneys_segmentation_labels" / "cases.json"
    oracle = np.zeros(SHAPE, np.uint8)
    for value, name in enumerate(NAMES, 1):
        oracle[masks()[name] > 0] = value
    for n in range(3):
        assert np.array_equal(merged(found.data.parent, f"s{n:04d}"), oracle)
    table = read_nifti(found.data.parent / "labels" / "s0000.nii.gz").labels
    assert tuple((row.value, row.name) for row in table) == tuple(enumerate(NAMES, 1))
    outputs = json.loads((found.bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    channels = outputs["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert [channels[str(n)] for n in range(5)] == ["background", *NAMES]
    assert "4 masks a case, merged in kidneys_segmentation_labels" in (found.bundle / "docs" / "plan.md").read_text(
        encoding="utf-8"
    )
    cases, steps = parts(found.bundle, found.data, "train#dataset#data", "train#preprocessing")
    learnt = np.asarray(steps(cases[0])["label"])[0]
    assert set(np.unique(learnt)) == {0, 1, 2, 3, 4}


def test_sides_trade_places_in_mirrored_patches(three, tmp_path):
    found = plan_bundle(three.root, tmp_path / "kidneys_segmentation", measure=False)
    (why,) = [choice for choice in found.choices if choice.topic == "mirroring"]
    assert "kidney_left" in f"{why.value} {why.why}"


def test_a_folder_around_the_cases_and_channels_by_file(maker):
    for n in range(2):
        written(maker, f"set/s{n}", n)
        maker.save(np.ones(SHAPE, np.float32), maker.root / "set" / f"s{n}" / "pet.nii.gz")
    sets = find_mask_sets(maker.root)
    assert sets.source.channels == ("ct", "pet")
    assert [(case.name, len(case.images)) for case in sets.source.cases] == [("s0", 2), ("s1", 2)]
    assert sets.structures == NAMES
    assert sets.source.problems == ()
    assert sets.source.inner == maker.root / "set"


def test_other_layouts_are_not_touched(maker, blocks, tmp_path):
    assert find_mask_sets(blocks) is None
    written(maker, "s0")
    maker.save(np.ones(SHAPE, np.float32), maker.root / "whole.nii.gz")  # an image beside the case folders
    assert find_mask_sets(maker.root) is None
    assert find_mask_sets(maker.root / "whole.nii.gz") is None
    (tmp_path / "empty").mkdir()
    assert find_mask_sets(tmp_path / "empty") is None


def test_few_shared_voxels_go_to_the_smaller_structure_in_whatever_order(maker, tmp_path):
    oracle = {}
    for n, (first, second) in enumerate([("aorta", "vein"), ("vein", "aorta")]):
        large, small = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
        large[2:20, 4:12, 4:12] = 255
        small[2:18, 11:16, 11:16] = 1  # 16 of its 400 voxels lie in the large one
        written(maker, f"s{n}", n, {first: large, second: small})
        oracle[f"s{n}"] = (first, small > 0, large > 0)
    sets = find_mask_sets(maker.root)
    _, choice = merge_masks(sets, tmp_path / "made")
    assert "32 voxels" in choice.why
    for name, (first, small, large) in oracle.items():
        values = {"aorta": 1, "vein": 2}
        expected = np.where(small, 3 - values[first], np.where(large, values[first], 0))
        assert np.array_equal(merged(tmp_path / "made", name), expected)


def test_nested_masks_are_a_fault_of_each_case(three, tmp_path):
    held = masks() | {"stone": np.zeros(SHAPE, np.uint8)}
    held["stone"][4:6, 6:8, 6:8] = 1
    for n in range(3):
        three.save(held["stone"], three.root / f"s{n:04d}" / "segmentations" / "stone.nii.gz")
    found = faults(three, tmp_path)
    assert [(one.code, one.case) for one in found] == [("MS-T157", f"s{n:04d}") for n in range(3)]
    assert "stone and kidney_left share 8 voxels, 100 % of the smaller one" in found[0].what


def test_a_missing_mask_an_unlabelled_case_and_odd_masks_stand_in_one_table(three, tmp_path):
    (three.root / "s0000" / "segmentations" / "rib_2.nii.gz").unlink()
    several = masks()["rib_2"] * 2
    several[:2, :2, :2] = 1
    three.save(several, three.root / "s0001" / "segmentations" / "rib_2.nii.gz")
    three.save(masks()["rib_2"], three.root / "s0002" / "segmentations" / "rib_2.nii.gz", origin=(40.0, 0.0, 0.0))
    three.save(np.ones(SHAPE, np.float32), three.root / "s0003" / "ct.nii.gz")
    written(three, "s0004", 4)
    three.save(np.ones(SHAPE, np.float32), three.root / "s0004" / "other.nii.gz")
    written(three, "s0005", 5)
    three.save(masks()["rib_2"], three.root / "s0005" / "segmentations" / "RIB_2.nii")
    (three.root / "docs").mkdir()
    (three.root / "docs" / "data.bin").write_bytes(b"1")
    found = {one.case: one for one in faults(three, tmp_path)}
    codes = {name: one.code for name, one in found.items()}
    assert codes == {
        "s0000": "MS-T156", "s0001": "MS-T157", "s0002": "MS-G103", "s0003": "MS-T141", "s0004": "MS-T141",
        "s0005": "MS-T157",
    }  # fmt: skip
    assert "no mask of rib_2" in found["s0000"].what
    assert "1, 2" in found["s0001"].what
    assert found["s0002"].file.endswith("rib_2.nii.gz")
    assert "called rib_2" in found["s0005"].what


def test_an_empty_mask_says_that_a_structure_is_not_there(three, tmp_path):
    three.save(np.zeros(SHAPE, np.uint8), three.root / "s0001" / "segmentations" / "rib_2.nii.gz")
    found = plan_bundle(three.root, tmp_path / "ribs", measure=False)
    assert set(np.unique(merged(found.data.parent, "s0001"))) == {0, 1, 2, 4}


def test_more_structures_than_a_bundle_has_labels(maker, tmp_path):
    empty = np.zeros((2, 2, 2), np.uint8)
    for n in range(256):
        maker.save(empty, maker.root / "s0" / "masks" / f"m{n}.nii")
    maker.save(np.ones((2, 2, 2), np.float32), maker.root / "s0" / "ct.nii.gz")
    with pytest.raises(InputError, match="256 structures"):
        plan_bundle(maker.root, tmp_path / "many", measure=False)


def test_a_training_that_is_given_the_masks_names_the_list(three):
    with pytest.raises(InputError, match="name the list") as caught:
        datalist(str(three.root), "train", channels=["image"])
    assert caught.value.code == "MS-T158"


def test_what_lies_in_the_folder_of_the_labels_stays(three, tmp_path):
    kept = tmp_path / "ribs_labels" / "thesis.docx"
    kept.parent.mkdir()
    kept.write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError) as caught:
        plan_bundle(three.root, tmp_path / "ribs", measure=False)
    assert caught.value.code == "MS-T152"
    assert kept.read_text(encoding="utf-8") == "mine"


def test_totalsegmentators_own_masks_are_its_own_label_map(data, maker, tmp_path):
    """TotalSegmentator wrote the same prediction both ways: as a file a structure, and with `--ml` as one label map."""
    real = data("totalseg")
    for name in ("s0011", "s0012"):
        (maker.root / name).mkdir(parents=True)
        (maker.root / name / "ct.nii.gz").symlink_to(real / "example_ct_sm.nii.gz")
        (maker.root / name / "segmentations").symlink_to(real / "example_seg_fast")
    sets = find_mask_sets(maker.root)
    source, _ = merge_masks(sets, tmp_path / "made")
    ours = read_nifti(source.cases[0].label)
    theirs = read_nifti(real / "example_seg_fast.nii.gz")
    values = np.zeros(256, np.uint8)
    names = {row.name: row.value for row in ours.labels}
    for row in theirs.labels:  # of an absent structure there may be no file
        values[row.value] = names.get(row.name, 0)
    assert len(np.unique(ours.array)) > 20
    assert np.array_equal(ours.array, values[theirs.array])
