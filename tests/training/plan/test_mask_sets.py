"""A folder a case with a mask a structure: found by names, merged voxel by voxel, planned, and refused where it is unclear."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.errors import InputError, OutputError
from medseg.readers.nifti import read_nifti
from medseg.training.datalist import datalist
from medseg.training.folds import find_folds
from medseg.training.plan.mask_merge import merge_masks
from medseg.training.plan.mask_sets import find_mask_sets
from medseg.training.plan.plan import plan_bundle
from medseg.training.plan.problems import DatasetError
from medseg.training.plan.sources import find_source

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
    assert why.value == "left-right, in half of the patches; left and right labels trade"


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
    written(maker, "s1", 1)
    assert find_mask_sets(maker.root) is not None
    maker.save(np.ones(SHAPE, np.float32), maker.root / "whole.nii.gz")  # an image beside the case folders
    assert find_mask_sets(maker.root) is None
    assert find_mask_sets(maker.root / "whole.nii.gz") is None
    (tmp_path / "empty").mkdir()
    assert find_mask_sets(tmp_path / "empty") is None


def test_a_dataset_beside_an_example_stays_the_dataset(maker, maker_at):
    written(maker, "example")
    inner = maker_at(maker.root / "Dataset001")
    for n in range(2):
        inner.case(f"a{n}", n)
    assert find_mask_sets(maker.root) is None
    assert [case.name for case in find_source(maker.root).cases] == ["a0", "a1"]


def test_few_odd_folders_make_no_layout(maker):
    for n in range(3):
        written(maker, f"s{n}", n, held={})
        maker.save(masks()["rib_2"], maker.root / f"s{n}" / "ct_seg.nii.gz")
    written(maker, "s3", 3)
    assert find_mask_sets(maker.root) is None
    written(maker, "s4", 4)
    written(maker, "s5", 5)
    assert find_mask_sets(maker.root) is None  # half of them
    written(maker, "s6", 6)
    assert [one.case for one in find_mask_sets(maker.root).source.problems] == ["s0", "s1", "s2"]


def test_label_maps_that_are_called_as_their_cases_or_by_nothing_in_common_are_no_masks(maker):
    for n in range(3):
        written(maker, f"p{n}", n, {f"p{n}": masks()["rib_2"]})
    assert find_mask_sets(maker.root) is None
    for n in range(3):
        written(maker, f"p{n}", n, {f"x{n}": masks()["rib_2"]})
        (maker.root / f"p{n}" / "segmentations" / f"p{n}.nii.gz").unlink()
    assert find_mask_sets(maker.root) is None


def test_objects_are_not_merged(three, tmp_path):
    with pytest.raises(DatasetError):
        plan_bundle(three.root, tmp_path / "planned", task="instances")
    assert not (tmp_path / "planned_labels").exists()


def test_masks_called_after_their_case_and_by_numbers_keep_their_names(maker, tmp_path):
    for n in range(2):
        held = {f"p{n}_7": masks()["rib_2"], f"p{n}_label_3": masks()["rib_10"], f"p{n}_10": np.zeros(SHAPE, np.uint8)}
        written(maker, f"p{n}", n, held)
    assert find_mask_sets(maker.root).structures == ("7", "10", "label_3")
    found = plan_bundle(maker.root, tmp_path / "odd_segmentation", measure=False)
    said = json.loads((found.bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    channels = said["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert [channels[str(n)] for n in range(4)] == ["background", "7", "10", "label_3"]
    (why,) = [choice.why for choice in found.choices if choice.topic == "classes"]
    assert "named but in no label map: 10" in why


def bars(*sizes):
    """Bars along the first axis that share their first voxels: (name, start, stop) each."""
    found = {}
    for name, start, stop in sizes:
        mask = np.zeros((240, 4, 4), np.uint8)
        mask[start:stop, 1, 1] = 255
        found[name] = mask
    return found


def alone(maker, tmp_path, held):
    """The label map of one case, or the faults, of bars."""
    shutil.rmtree(maker.root, ignore_errors=True)
    shutil.rmtree(tmp_path / "made", ignore_errors=True)
    maker.save(np.random.default_rng(0).normal(0, 1, (240, 4, 4)).astype(np.float32), maker.root / "s0" / "ct.nii.gz")
    for name, mask in held.items():
        maker.save(mask, maker.root / "s0" / "masks" / f"{name}.nii.gz")
    sets = find_mask_sets(maker.root)
    try:
        _, choice = merge_masks(sets, tmp_path / "made")
    except DatasetError as error:
        return [problem.what for problem in error.problems]
    return merged(tmp_path / "made", "s0")[:, 1, 1], sets.structures, choice


@pytest.mark.parametrize("names", list(itertools.permutations("abc")))
def test_shared_voxels_go_to_the_smallest_structure_in_whatever_order(maker, tmp_path, names):
    large, middle, small = names
    held = bars((large, 0, 120), (middle, 114, 214), (small, 112, 116))
    line, structures, choice = alone(maker, tmp_path, held | {small: held[small] * 0})
    values = {name: structures.index(name) + 1 for name in names}
    assert (line[:114] == values[large]).all()
    assert (line[114:214] == values[middle]).all()  # 6 of 100 and 120 voxels
    assert "6 voxels (2.8 % of the labelled ones)" in choice.why
    whole = alone(maker, tmp_path, held)
    assert any("share" in what and "50 % of the smaller" in what for what in whole)  # 114 and 115 of 112 to 115


@pytest.mark.parametrize("names", list(itertools.permutations("abc")))
def test_every_pair_counts_where_three_claim_a_voxel(maker, tmp_path, names):
    """The first two share 20 voxels; the third claims 10 of these too, 9 % of its own."""
    held = bars((names[0], 0, 110), (names[1], 90, 190), (names[2], 100, 110))
    held[names[2]][:100, 3, 3] = 255
    (what,) = alone(maker, tmp_path, held)
    assert "shares 20 voxels with" in what
    assert "20 % of the smaller one" in what


def test_a_tenth_may_be_shared_and_equals_go_to_the_first_name(maker, tmp_path):
    line, _, _ = alone(maker, tmp_path, bars(("a", 0, 100), ("b", 90, 190)))
    assert (line[:100] == 1).all()
    assert (line[100:190] == 2).all()
    (what,) = alone(maker, tmp_path, bars(("a", 0, 100), ("b", 89, 189)))
    assert what == "it shares 11 voxels with a, 11 % of the smaller one"


def test_a_structure_of_which_many_others_claim_a_little_each(maker, tmp_path):
    """Twelve parts of 25 voxels; 2 of each, 8 %, are claimed by the big one, which would lose 24 of 200."""
    held = bars(("big", 0, 200), *((f"part_{n}", 16 * n, 16 * n + 2) for n in range(12)))
    for n in range(12):
        held[f"part_{n}"][20 * n : 20 * n + 20, 3, 3] = 255
        held[f"part_{n}"][20 * n : 20 * n + 3, 2, 3] = 255
    (what,) = alone(maker, tmp_path, held)
    assert what == "smaller structures claim 24 of its 200 voxels"
    line, structures, choice = alone(maker, tmp_path, {name: held[name] for name in list(held)[:10]})
    assert (line == structures.index("big") + 1).sum() == 200 - 18
    assert "18 voxels" in choice.why


def test_nested_masks_are_a_fault_of_each_case(three, tmp_path):
    held = masks() | {"stone": np.zeros(SHAPE, np.uint8)}
    held["stone"][4:6, 6:8, 6:8] = 1
    for n in range(3):
        three.save(held["stone"], three.root / f"s{n:04d}" / "segmentations" / "stone.nii.gz")
    found = faults(three, tmp_path)
    assert [(one.code, one.case) for one in found] == [("MS-T157", f"s{n:04d}") for n in range(3)]
    assert found[0].what == "it shares 8 voxels with kidney_left, 100 % of the smaller one"


def test_whatever_is_odd_stands_in_one_table(three, tmp_path):
    for n in range(3, 9):
        written(three, f"s{n:04d}", n)
    place = {n: three.root / f"s{n:04d}" / "segmentations" for n in range(9)}
    (place[0] / "rib_2.nii.gz").unlink()
    several = masks()["rib_2"] * 2
    several[:2, :2, :2] = 1
    three.save(several, place[1] / "rib_2.nii.gz")
    three.save(masks()["rib_2"], place[2] / "rib_2.nii.gz", origin=(40.0, 0.0, 0.0))
    three.save(masks()["rib_2"], place[3].parent / "body_mask.nii.gz")
    three.save(np.ones(SHAPE, np.float32), place[4].parent / "other.nii.gz")
    three.save(masks()["rib_2"], place[5] / "RIB_2.nii")
    (place[6].parent / "ct.nii.gz").unlink()
    three.save(masks()["rib_2"], place[7] / "background.nii.gz")
    three.save(masks()["rib_2"], place[8] / "s0008.nii.gz")
    (three.root / "docs").mkdir()
    (three.root / "docs" / "data.bin").write_bytes(b"1")
    found = {one.case: one for one in faults(three, tmp_path)}
    codes = {name: one.code for name, one in found.items()}
    assert codes == {
        "s0000": "MS-T156", "s0001": "MS-T157", "s0002": "MS-G103", "s0003": "MS-T141", "s0004": "MS-T141",
        "s0005": "MS-T157", "s0006": "MS-T142", "s0007": "MS-T157", "s0008": "MS-T157",
    }  # fmt: skip
    said = [found[f"s{n:04d}"].what for n in range(9)]
    assert "no mask of rib_2" in said[0]
    assert "1, 2" in said[1]
    assert found["s0002"].file.endswith("rib_2.nii.gz")
    assert "seen: body_mask.nii.gz, ct.nii.gz, segmentations" in said[3]
    assert "2 images beside one folder of masks" in said[4]
    assert "called rib_2" in said[5].lower()
    assert "without an image" in said[6]
    assert "background" in said[7]
    assert "called as its case" in said[8]


def test_two_cases_of_one_name_and_a_folder_that_may_not_be_read(three, tmp_path, monkeypatch):
    written(three, "S0001", 4)
    (three.root / "s0009").mkdir()
    listed = Path.iterdir

    def refuse(folder):
        if folder.name == "s0009":
            raise PermissionError(13, os.strerror(13))
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert sorted((one.code, one.case) for one in faults(three, tmp_path)) == [
        ("MS-C102", "s0001"),
        ("MS-F102", "s0009"),
    ]


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
    for ask in (lambda: datalist(str(three.root), "train", channels=["image"]), lambda: find_folds(three.root, 2)):
        with pytest.raises(InputError, match="name the list") as caught:
            ask()
        assert caught.value.code == "MS-T158"


def test_an_empty_folder_of_the_labels_is_empty_after_a_fault(three, tmp_path):
    three.save(masks()["rib_2"] * 2 + masks()["rib_10"], three.root / "s0002" / "segmentations" / "rib_2.nii.gz")
    (tmp_path / "planned_labels").mkdir()
    with pytest.raises(DatasetError):
        plan_bundle(three.root, tmp_path / "planned", measure=False)
    assert list((tmp_path / "planned_labels").iterdir()) == []


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
