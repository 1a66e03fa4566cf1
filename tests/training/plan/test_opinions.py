"""Whose label maps lie where."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.errors import InputError
from medseg.training.plan.opinions import find_opinions
from medseg.training.plan.sources import find_source


def test_folders_beside_the_images_are_annotators_and_nobodys_is_left_aside(maker):
    for n in range(2):
        path = maker.case(f"case_{n}", n)
        for who in ("labelsTr_ANNA", "labelsTr-BO", "labelsTr_ANNA K"):
            maker.save(np.ones((24, 24, 24), np.uint8), maker.root / who / path.name)
    (maker.root / "labelsTr-BO" / "case_0.nii.gz").unlink()
    (maker.root / "labels_else").mkdir()
    found = find_opinions(maker.root)
    assert found.who == ("ANNA", "ANNA K", "BO")
    assert set(found.maps["case_0"]) == {"ANNA", "ANNA K"}
    assert found.maps["case_1"]["BO"] == maker.root / "labelsTr-BO" / "case_1.nii.gz"
    assert found.source.problems == ()


def test_what_is_missing_is_named(maker):
    for n in range(2):
        maker.case(f"case_{n}", n).unlink()
        maker.save(np.ones((24, 24, 24), np.uint8), maker.root / "labelsTr_A" / "case_0.nii.gz")
        maker.save(np.ones((24, 24, 24), np.uint8), maker.root / "labelsTr_B" / "case_9.nii.gz")
    problems = find_opinions(maker.root).source.problems
    assert [(p.code, p.case) for p in problems] == [("MS-T142", "case_9"), ("MS-T141", "case_1")]
    told = find_source(maker.root).problems
    assert {p.code for p in told} == {"MS-T141"}
    assert all("A, B: --annotators staple" in p.mend for p in told)


def test_a_list_with_one_annotator_is_refused(maker):
    maker.case("case_0", 0)
    path = maker.root / "list.csv"
    path.write_text("name,image,label_anna\ncase_0,imagesTr/case_0.nii.gz,labelsTr/case_0.nii.gz\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"MS-T154.*of anna alone"):
        find_opinions(path)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="MS-T103"):
        find_opinions(tmp_path / "absent")
