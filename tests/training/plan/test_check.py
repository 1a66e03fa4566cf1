"""The check of a dataset: ten planted faults, each named with its file in one table; sound data pass."""

from __future__ import annotations

import shutil

import nibabel as nib
import numpy as np
import pytest

from medseg.cli.app import run
from medseg.training.plan.check import check_dataset, same_subjects
from medseg.training.plan.classes import known_values
from medseg.training.plan.plan import plan_bundle
from medseg.training.plan.problems import COLUMNS, DatasetError
from medseg.training.plan.sources import find_source


def checked(root, **options):
    source = find_source(root)
    return check_dataset(source, known_values(source.said), **options)


def plant(maker) -> dict[str, str]:
    """A dataset of 16 cases, ten of them wrong in a way of their own; the file of each fault -> its code."""
    names = [f"sub-{n:02d}_scan" for n in range(16)]
    for n, name in enumerate(names):
        maker.case(name, n)
    maker.say(channel_names={"0": "T2"}, labels={"background": 0, "a": 1, "b": 2})
    images, labels = maker.root / "imagesTr", maker.root / "labelsTr"
    maker.case("sub-00_again", 99)  # the subject of case 0, on the other side
    maker.split([*names[:7], names[8]], [names[7], *names[9:15], "sub-00_again"])

    shape = (24, 24, 24)
    image = nib.load(images / f"{names[1]}.nii.gz").get_fdata(dtype=np.float32).copy()
    image[3, 4, 5] = np.nan
    maker.save(image, images / f"{names[1]}.nii.gz")  # 1 NaN
    mask = np.zeros(shape, np.uint8)
    mask[4:14, 6:16, 8:18] = 1
    maker.save(mask, labels / f"{names[2]}.nii.gz", origin=(100.25, 0, 0))  # 2 geometry
    maker.save(np.full(shape, 0.5, np.float32), labels / f"{names[3]}.nii.gz")  # 3 no whole numbers
    mask[4, 4, 4] = 7
    maker.save(mask, labels / f"{names[4]}.nii.gz")  # 4 an unknown value
    maker.save(np.zeros(shape, np.uint8), labels / f"{names[5]}.nii.gz")  # 5 empty
    shutil.copy(images / f"{names[6]}.nii.gz", images / f"{names[7]}.nii.gz")  # 6 one image on both sides
    (images / f"{names[8]}.nii.gz").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")  # 7 unreadable
    maker.save(np.ones((*shape, 3), np.float32), images / f"{names[10]}.nii.gz")  # 8 three channels
    (labels / f"{names[15]}.nii.gz").unlink()  # 9 no label map
    return {
        f"imagesTr/{names[1]}.nii.gz": "MS-F112",
        f"labelsTr/{names[2]}.nii.gz": "MS-G102",
        f"labelsTr/{names[3]}.nii.gz": "MS-C111",
        f"labelsTr/{names[4]}.nii.gz": "MS-T143",
        f"labelsTr/{names[5]}.nii.gz": "MS-T144",
        f"imagesTr/{names[7]}.nii.gz": "MS-T145",
        f"imagesTr/{names[8]}.nii.gz": "MS-F10",
        f"imagesTr/{names[10]}.nii.gz": "MS-C107",
        f"imagesTr/{names[15]}.nii.gz": "MS-T141",
        "imagesTr/sub-00_again.nii.gz": "MS-T146",  # 10 one subject on both sides
    }


def test_ten_planted_faults_are_named_with_their_files_in_one_table(maker, tmp_path, capsys):
    planted = plant(maker)
    out = tmp_path / "planned_segmentation"
    assert run(["plan", str(maker.root), "-o", str(out)]) == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    for file, code in planted.items():
        rows = [line for line in lines if str(maker.root / file) in line]
        assert any(code in row and row.strip().startswith("fail") for row in rows), f"{file}: {rows}"
    assert printed.err.count(" what ") == 1  # one header: one table
    assert "MS-T140" in printed.err
    assert not out.exists()


def test_the_error_carries_exactly_the_faults(maker, tmp_path):
    planted = plant(maker)
    with pytest.raises(DatasetError, match=r"MS-T140 .*10 faults in 10 files") as caught:
        plan_bundle(maker.root, tmp_path / "planned_segmentation")
    faults = [problem for problem in caught.value.problems if not problem.note]
    found = {problem.file: problem.code for problem in faults}
    wanted = {str(maker.root / file): code for file, code in planted.items()}
    assert set(found) == set(wanted)
    assert all(found[file].startswith(code) for file, code in wanted.items())
    assert all(len(problem.row()) == len(COLUMNS) and problem.mend for problem in faults)
    assert caught.value.exit_code == 3


def test_sound_data_have_no_problem(blocks):
    facts, split, problems = checked(blocks)
    assert problems == []
    assert [one.name for one in facts] == [f"block_{n}" for n in range(6)]
    assert not split.said


def test_an_empty_label_map_is_let_pass_when_it_is_meant(maker):
    maker.case("a", 0)
    maker.case("b", 1, labels=np.zeros((24, 24, 24), np.uint8))
    _, _, strict = checked(maker.root)
    facts, _, lenient = checked(maker.root, allow_empty=True)
    assert [(p.code, p.note) for p in strict] == [("MS-T144", False)]
    assert [(p.code, p.note) for p in lenient] == [("MS-T144", True)]
    assert [one.name for one in facts] == ["a", "b"]


def test_a_label_map_without_an_image_and_a_constant_image_are_faults(maker):
    maker.case("a", 0)
    maker.case("b", 1, image=np.full((24, 24, 24), 3.0))
    maker.save(np.ones((4, 4, 4), np.uint8), maker.root / "labelsTr" / "c.nii.gz")
    _, _, problems = checked(maker.root)
    assert {(p.code, p.file.rsplit("/", 1)[-1]) for p in problems} == {
        ("MS-T148", "b.nii.gz"),
        ("MS-T142", "c.nii.gz"),
    }


def test_a_wrong_label_map_is_named_beside_its_unreadable_image(maker):
    maker.case("a", 0)
    maker.case("b", 1)
    (maker.root / "imagesTr" / "b.nii.gz").write_bytes(b"nothing")
    maker.save(np.full((24, 24, 24), 1.5, np.float32), maker.root / "labelsTr" / "b.nii.gz")
    codes = sorted(p.code for p in checked(maker.root)[2])
    assert codes[0] == "MS-C111"
    assert codes[1].startswith("MS-F")


def test_the_same_image_with_another_label_map_and_another_compression_is_a_duplicate(maker):
    label = maker.case("a", 0)
    array = nib.load(maker.root / "imagesTr" / "a.nii.gz").get_fdata(dtype=np.float32)
    other = np.asarray(nib.load(label).dataobj).copy()
    other[0, 0, 0] = 1
    maker.case("b", 1)
    maker.save(array.astype(np.float64), maker.root / "imagesTr" / "b.nii.gz")
    maker.save(other, maker.root / "labelsTr" / "b.nii.gz")
    facts, _, problems = checked(maker.root)
    assert [(p.code, p.case, p.note) for p in problems] == [("MS-T145", "b", True)]
    assert same_subjects(facts, {}) == {"a": "a", "b": "a"}  # a split that is drawn keeps them together
    maker.split(["a"], ["b"])
    assert [(p.code, p.case, p.note) for p in checked(maker.root)[2]] == [("MS-T145", "b", False)]


def test_a_spacing_in_centimetres_and_a_ct_among_mr_are_notes(maker):
    for n in range(5):
        maker.case(f"case_{n}", n)
    maker.case("in_cm", 7, spacing=(0.1, 0.1, 0.1))
    maker.case("ct", 8, image=np.random.default_rng(0).normal(-500, 300, (24, 24, 24)))
    problems = checked(maker.root)[2]
    assert {(p.code, p.case, p.note) for p in problems} == {("MS-T149", "in_cm", True), ("MS-T149", "ct", True)}


def test_channels_that_one_case_lacks_are_named(maker):
    for n in range(3):
        maker.case(f"case_{n}", n, channels=2)
    (maker.root / "imagesTr" / "case_1_0001.nii.gz").unlink()
    source = find_source(maker.root)
    assert source.channels == ("channel 0", "channel 1")
    problems = checked(maker.root)[2]
    assert [(p.case, p.code) for p in problems] in ([("case_1", "MS-C105")], [("case_1", "MS-C107")])
