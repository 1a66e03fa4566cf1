"""`medseg plan --annotators`: maps of several people become labels that a training learns from."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from medseg.errors import InputError, OutputError, UsageError
from medseg.training.plan.opinions import find_opinions
from medseg.training.plan.plan import plan_bundle
from medseg.training.plan.problems import DatasetError
from medseg.training.train import train_bundle


def truth():
    label = np.zeros((24, 24, 24), np.uint8)
    label[4:14, 6:16, 8:18] = 1
    label[15:20, 6:16, 8:18] = 2
    return label


def annotated(maker, cases=3, wrong=(("A", 0.02), ("B", 0.05), ("C", 0.25))):
    """Cases whose annotators slip at random; nobody's labelsTr is taken away."""
    for n in range(cases):
        maker.case(f"case_{n}", n, labels=truth())
        (maker.root / "labelsTr" / f"case_{n}.nii.gz").unlink()
        rng = np.random.default_rng(n)
        for who, share in wrong:
            said = truth()
            slips = (rng.random(said.shape) < share) & (said > 0)
            said[slips] = rng.integers(0, 3, slips.sum())
            maker.save(said, maker.root / f"labelsTr_{who}" / f"case_{n}.nii.gz")
    (maker.root / "labelsTr").rmdir()
    maker.say(channel_names={"0": "T2"}, labels={"background": 0, "kidney": 1, "liver": 2})
    return maker


def fused(folder, name):
    return np.asarray(nib.load(folder / "labels" / f"{name}.nii.gz").dataobj)


@pytest.mark.parametrize("method", ["staple", "dawid-skene", "mean"])
def test_fused_labels_are_nearer_the_truth_than_any_annotator_and_are_planned_with(maker, tmp_path, method):
    annotated(maker)
    out = tmp_path / "fused_segmentation"
    found = plan_bundle(maker.root, out, annotators=method, measure=False)
    assert found.problems == ()
    assert found.data == tmp_path / "fused_segmentation_labels" / "cases.json"
    rows = json.loads(found.data.read_text(encoding="utf-8"))["cases"]
    assert [row["name"] for row in rows] == ["case_0", "case_1", "case_2"]
    inside = truth() > 0
    for n in range(3):
        right = (fused(found.data.parent, f"case_{n}") == truth())[inside].mean()
        best = np.asarray(nib.load(maker.root / "labelsTr_A" / f"case_{n}.nii.gz").dataobj)
        assert right >= (best == truth())[inside].mean() - (0.02 if method == "mean" else 0.0)
        assert right > 0.97
    report = (out / "docs" / "plan.md").read_text(encoding="utf-8")
    assert f"3 annotators (A, B, C) fused by {method}" in report
    lines = [line.split(" | ") for line in report.splitlines() if line.startswith(("| A |", "| C |"))]
    right = {(row[0][2:], row[2]): float(row[3]) for row in lines}
    assert right["A", "kidney"] == pytest.approx(1 - 0.02 * 2 / 3, abs=0.01)
    assert right["C", "liver"] == pytest.approx(1 - 0.25 * 2 / 3, abs=0.03)


def test_the_mean_is_learnt_as_soft_labels(maker, tmp_path, parts):
    annotated(maker)
    found = plan_bundle(maker.root, tmp_path / "soft_segmentation", annotators="mean", measure=False)
    cases, steps = parts(found.bundle, found.data, "train#dataset#data", "train#preprocessing")
    target = steps(cases[0])["label"]
    assert target.shape[0] == 3
    assert target.sum(0).numpy() == pytest.approx(1)
    thirds = target * 3
    assert thirds.numpy() == pytest.approx(thirds.round().numpy())
    assert ((target > 0) & (target < 1)).any()
    run = train_bundle(found.bundle, found.data, tmp_path / "run", epochs=1)
    assert (run / "models" / "model.safetensors").is_file()
    train_bundle(found.bundle, found.data, tmp_path / "taught", epochs=1, loss="dice_focal")


def test_ignored_gaps_and_absent_annotators_go_through_all_of_it(maker, tmp_path):
    annotated(maker)
    for who in "ABC":
        for n in range(3):
            path = maker.root / f"labelsTr_{who}" / f"case_{n}.nii.gz"
            said = np.asarray(nib.load(path).dataobj) * 5
            said[:, :, 20:] = 99 if who != "A" else 0
            maker.save(said, path)
    (maker.root / "labelsTr_C" / "case_1.nii.gz").unlink()
    for n in range(3):
        path = maker.root / "labelsTr_A" / f"case_{n}.nii.gz"
        said = np.asarray(nib.load(path).dataobj).copy()
        said[:, :, 22:] = 99
        maker.save(said, path)
    maker.say(channel_names={"0": "T2"}, labels={"background": 0, "left": 5, "right": 10, "ignore": 99})
    found = plan_bundle(maker.root, tmp_path / "all_segmentation", annotators="mean", measure=False)
    assert found.problems == ()
    label = fused(found.data.parent, "case_0")
    assert set(np.unique(label)) == {0, 5, 10, 99}
    assert (label[:, :, 22:] == 99).all()  # nobody says anything
    assert not label[:, :, 20:22].any()  # A alone does
    train_bundle(found.bundle, found.data, tmp_path / "run", epochs=1)


def test_columns_of_a_list_are_annotators_too(maker, tmp_path):
    annotated(maker)
    rows = [
        f"case_{n},imagesTr/case_{n}.nii.gz,labelsTr_A/case_{n}.nii.gz,labelsTr_B/case_{n}.nii.gz" for n in range(3)
    ]
    path = maker.root / "list.csv"
    path.write_text("\n".join(["name,image,label_anna,label_bo", *rows]), encoding="utf-8")
    found = find_opinions(path)
    assert found.who == ("anna", "bo")
    assert found.maps["case_2"]["bo"] == maker.root / "labelsTr_B" / "case_2.nii.gz"
    planned = plan_bundle(path, tmp_path / "listed_segmentation", annotators="staple", measure=False)
    assert planned.problems == ()


def test_faults_of_annotators_stand_in_one_table_and_nothing_is_written(maker, tmp_path):
    annotated(maker)
    maker.save(truth()[:20], maker.root / "labelsTr_A" / "case_0.nii.gz", spacing=(1.0, 1.1, 1.0))
    maker.save(truth() * 4, maker.root / "labelsTr_B" / "case_1.nii.gz")
    maker.save(truth(), maker.root / "labelsTr_B" / "stray.nii.gz")
    for who in "ABC":
        (maker.root / f"labelsTr_{who}" / "case_2.nii.gz").unlink()
    with pytest.raises(DatasetError) as refused:
        plan_bundle(maker.root, tmp_path / "faulty_segmentation", annotators="staple")
    assert {(p.code, p.case) for p in refused.value.problems} == {
        ("MS-G102", "case_0"), ("MS-T143", "case_1"), ("MS-T142", "stray"), ("MS-T141", "case_2"),
    }  # fmt: skip
    assert "labelsTr_B" in next(p.file for p in refused.value.problems if p.code == "MS-T143")
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


def test_a_fault_found_after_fusing_takes_the_fused_labels_away(maker, tmp_path):
    annotated(maker)
    maker.split(["case_0", "case_1"], ["case_1", "case_2"])
    with pytest.raises(DatasetError, match="MS-T140"):
        plan_bundle(maker.root, tmp_path / "split_segmentation", annotators="staple")
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


def test_where_nobody_labelled_anything_the_check_says_so(maker, tmp_path):
    annotated(maker)
    for path in maker.root.glob("labelsTr_*/*.nii.gz"):
        maker.save(np.zeros((24, 24, 24), np.uint8), path)
    with pytest.raises(DatasetError) as refused:
        plan_bundle(maker.root, tmp_path / "empty_segmentation", annotators="dawid-skene")
    assert {p.code for p in refused.value.problems} == {"MS-T144"}


def test_one_annotator_is_too_few(maker, tmp_path):
    annotated(maker, wrong=(("A", 0.1),))
    with pytest.raises(InputError, match=r"MS-T154.*of A alone"):
        plan_bundle(maker.root, tmp_path / "one_segmentation", annotators="mean")


def test_nothing_of_the_folder_beside_is_overwritten(maker, tmp_path):
    annotated(maker)
    kept = tmp_path / "new_segmentation_labels" / "thesis.docx"
    kept.parent.mkdir()
    kept.touch()
    with pytest.raises(OutputError, match="MS-T152"):
        plan_bundle(maker.root, tmp_path / "new_segmentation", annotators="mean")
    assert kept.is_file()


@pytest.mark.parametrize(("task", "method"), [("segmentation", "vote"), ("instances", "mean")])
def test_other_ways_are_refused(maker, tmp_path, task, method):
    annotated(maker)
    with pytest.raises(UsageError, match="MS-T153"):
        plan_bundle(maker.root, tmp_path / "new_segmentation", annotators=method, task=task)
