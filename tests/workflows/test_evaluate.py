"""`medseg evaluate` from files to files."""

from __future__ import annotations

import csv
import json
import math

import nibabel as nib
import numpy as np
import pytest

import medseg
from medseg.errors import InputError, OutputError, UsageError
from medseg.workflows.evaluation.protocol import Instances, Protocol

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])
QUICK = Protocol(draws=50)


def blocks(*boxes, shape=(12, 12, 12)):
    """A label map with a block of value n + 1 for each (start, stop)."""
    out = np.zeros(shape, np.uint8)
    for value, (start, stop) in enumerate(boxes, 1):
        out[tuple(map(slice, start, stop))] = value
    return out


def put(path, array, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(array, affine).to_filename(path)
    return path


REF = blocks(((2, 2, 2), (6, 6, 6)), ((7, 7, 7), (10, 10, 10)))
MOVED = blocks(((3, 2, 2), (7, 6, 6)), ((7, 7, 7), (10, 10, 10)))


@pytest.fixture
def folders(tmp_path):
    """Three references; one prediction is right, one moved by a voxel, one missing; a fourth has no reference."""
    for case in "abc":
        put(tmp_path / "ref" / f"{case}.nii.gz", REF)
    put(tmp_path / "pred" / "a.nii.gz", REF)
    put(tmp_path / "pred" / "b.nii.gz", MOVED)
    put(tmp_path / "pred" / "z.nii.gz", REF)
    return tmp_path


def values(found, case, structure="label 1"):
    return {r.metric: r.value for r in found.rows if (r.case, r.structure) == (case, structure)}


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_numbers_by_hand(folders):
    found = medseg.evaluate(folders / "pred", folders / "ref", protocol=QUICK)
    assert values(found, "a") | {"dice": 1.0, "hd_mm": 0.0, "nsd@1mm": 1.0} == values(found, "a")
    b = values(found, "b")
    assert b["dice"] == 0.75
    assert b["hd_mm"] == 1.0  # one voxel of 1 mm along the first axis
    assert b["volume_pred_ml"] == pytest.approx(64 * 6 / 1000)
    assert (values(found, "b", "label 2")["dice"], found.exit_code) == (1.0, 0)


def test_a_missing_prediction_is_a_failure_and_an_extra_one_is_told(folders):
    found = medseg.evaluate(folders / "pred", folders / "ref", protocol=QUICK)
    assert (found.pairs.missing, found.pairs.extra) == (("c",), ("z",))
    c = values(found, "c")
    assert (c["dice"], c["hd95_mm"], c["nsd@1mm"]) == (0.0, math.inf, 0.0)
    assert {r.status for r in found.rows if r.case == "c"} == {"pred_missing"}
    dice, hd95 = found.summary["label 1"]["dice"], found.summary["label 1"]["hd95_mm"]
    assert (dice.n, dice.mean) == (3, pytest.approx(1.75 / 3))
    assert (hd95.n, hd95.n_finite) == (3, 2)
    diagonal = math.sqrt(sum((12 * s) ** 2 for s in (1, 2, 3)))
    assert hd95.mean_penalised == pytest.approx((0 + 1 + diagonal) / 3)


def test_two_of_three_predictions_empty_no_aggregate_reads_as_good(tmp_path):
    for case in "abc":
        put(tmp_path / "ref" / f"{case}.nii.gz", REF)
        put(tmp_path / "pred" / f"{case}.nii.gz", REF if case == "a" else np.zeros_like(REF))
    found = medseg.evaluate(tmp_path / "pred", tmp_path / "ref", protocol=QUICK)
    for metrics in found.summary.values():
        for name in ("hd_mm", "hd95_mm", "assd_mm", "masd_mm"):
            assert metrics[name].median == math.inf
            assert metrics[name].mean_penalised > 20
            assert (metrics[name].n, metrics[name].n_finite) == (3, 1)
        for name in ("dice", "iou", "precision", "recall", "nsd@1mm", "boundary_iou@1mm", "boundary_f1@1mm"):
            assert metrics[name].mean == metrics[name].mean_penalised == pytest.approx(1 / 3)


def test_what_is_written(folders):
    out = folders / "out"
    found = medseg.evaluate(folders / "pred", folders / "ref", out, protocol=QUICK)
    assert sorted(p.name for p in out.iterdir()) == ["cases.csv", "failures.csv", "report.html", "summary.json"]
    rows = table(out / "cases.csv")
    assert [list(r.values()) for r in rows] == [
        [r.case, r.subject, r.structure, r.metric, r.definition, str(r.value), r.status] for r in found.rows
    ]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["structures"]["label 1"]["hd95_mm"]["q3"] == "inf"
    assert summary["structures"]["label 1"]["hd95_mm"]["definition"] == "border"
    assert (summary["missing"], summary["extra"], summary["cases"]) == (["c"], ["z"], 3)
    assert "label 1" in (out / "report.html").read_text()


def test_a_folder_that_holds_something_is_kept(folders):
    (folders / "out").mkdir()
    (folders / "out" / "mine.txt").write_text("x")
    with pytest.raises(OutputError, match=r"MS-E301 .*not empty \(it holds 'mine\.txt'\)"):
        medseg.evaluate(folders / "pred", folders / "ref", folders / "out", protocol=QUICK)
    medseg.evaluate(folders / "pred", folders / "ref", folders / "out", protocol=QUICK, overwrite=True)
    assert (folders / "out" / "mine.txt").read_text() == "x"


def test_one_unreadable_case_does_not_stop_the_others(folders):
    (folders / "pred" / "b.nii.gz").write_bytes(b"not an image at all")
    found = medseg.evaluate(folders / "pred", folders / "ref", folders / "out", protocol=QUICK)
    assert (found.exit_code, [f.case for f in found.failures]) == (6, ["b"])
    (row,) = table(folders / "out" / "failures.csv")
    assert "b.nii.gz" in row["file"]
    assert row["mend"]
    assert found.summary["label 1"]["dice"].n == 2


def test_no_case_can_be_scored(folders):
    for case in "ab":
        put(folders / "pred" / f"{case}.nii.gz", REF, np.diag([1, 1, 1, 1]))
    (folders / "ref" / "c.nii.gz").write_bytes(b"broken")
    assert medseg.evaluate(folders / "pred", folders / "ref", folders / "out", protocol=QUICK).exit_code == 3


def test_another_space_is_refused_with_the_distance_and_resampled_on_request(folders):
    away = AFFINE.copy()
    away[:3, 3] = 0.5, 0, 0
    put(folders / "pred" / "b.nii.gz", MOVED, away)
    found = medseg.evaluate(folders / "pred", folders / "ref", protocol=QUICK)
    (failure,) = found.failures
    assert (failure.code, failure.case) == ("MS-E102", "b")
    assert "0.5 mm apart" in failure.what
    assert "--resample" in failure.mend
    found = medseg.evaluate(folders / "pred", folders / "ref", protocol=QUICK, resample=True)
    assert found.exit_code == 0
    assert any("b: prediction: MS-E201" in note for note in found.notes)


def test_the_same_lattice_with_another_extent_or_axis_order_is_accepted(folders):
    cut = AFFINE.copy()
    cut[:3, 3] = AFFINE[:3, :3] @ [1, 2, 2]
    put(folders / "pred" / "a.nii.gz", REF[1:11, 2:, 2:], cut)
    turned = AFFINE @ np.array([[0, 0, -1, 11], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    put(folders / "pred" / "b.nii.gz", np.flip(REF.transpose(2, 1, 0), 2), turned)
    found = medseg.evaluate(folders / "pred", folders / "ref", protocol=QUICK)
    assert values(found, "a")["dice"] == values(found, "b")["dice"] == 1.0
    assert sum("MS-G204" in note or "MS-G205" in note for note in found.notes) == 2


def test_values_that_differ_between_the_maps(folders):
    for case, array in (("a", REF), ("b", MOVED)):
        put(folders / "pred" / f"{case}.nii.gz", np.array([0, 50, 60], np.uint8)[array])
    wanted = {"liver": {"pred": 50, "ref": 1}, "both": {"pred": [50, 60], "ref": [1, 2]}}
    found = medseg.evaluate(folders / "pred", folders / "ref", protocol=QUICK, labels=wanted)
    assert values(found, "b", "liver")["dice"] == 0.75
    assert values(found, "b", "both")["dice"] == pytest.approx(2 * (48 + 27) / (2 * 91))
    found = medseg.evaluate(folders / "pred", folders / "ref", protocol=QUICK, labels={"liver": {"pred": 50, "ref": 1}})
    assert "b: prediction: value 60 belongs to no structure (27 voxels)" in found.notes


def test_a_structure_that_only_one_case_has_is_empty_in_the_others(folders):
    put(folders / "ref" / "a.nii.gz", blocks(*[((0, 0, 0), (2, 2, 2))] * 3))
    found = medseg.evaluate(folders / "pred", folders / "ref", protocol=QUICK)
    assert found.summary["label 3"]["dice"].n == 3
    assert {r.status for r in found.rows if r.structure == "label 3" and r.case != "a"} == {"both_empty"}
    for metric in ("dice", "hd95_mm"):
        both_empty = next(r for r in found.rows if (r.structure, r.case, r.metric) == ("label 3", "b", metric))
        assert both_empty.value == (1.0 if metric == "dice" else 0.0)


def test_comparison_of_two_predictions(tmp_path):
    random = np.random.default_rng(0)
    for n in range(8):
        put(tmp_path / "ref" / f"{n}.nii.gz", REF)
        worse = REF * (random.random(REF.shape) > 0.3)
        put(tmp_path / "good" / f"{n}.nii.gz", REF)
        put(tmp_path / "bad" / f"{n}.nii.gz", worse.astype(np.uint8))
    found = medseg.evaluate(
        tmp_path / "good", tmp_path / "ref", tmp_path / "out", compare=tmp_path / "bad", protocol=QUICK
    )
    row = next(r for r in found.comparison if (r["structure"], r["metric"]) == ("label 1", "dice"))
    assert (row["n"], row["better"], row["p"]) == (8, "prediction", 2 / 2**8)
    assert row["p_holm"] == pytest.approx(min(1.0, row["p"] * len(found.comparison)))
    assert 0.1 < row["low"] <= row["mean_difference"] <= row["high"] < 0.3
    assert len(table(tmp_path / "out" / "compare.csv")) == len(found.comparison)


def test_groups_show_who_is_served_worse(folders):
    (folders / "cases.csv").write_text("case,subject,site\na,p1,Oslo\nb,p2,Rome\nc,p3,Rome\n")
    found = medseg.evaluate(
        folders / "pred", folders / "ref", folders / "out", cases=folders / "cases.csv", group_by="site", protocol=QUICK
    )
    rome = next(r for r in found.groups if (r["group"], r["structure"], r["metric"]) == ("Rome", "label 1", "dice"))
    assert (rome["n"], rome["mean"], rome["is_worst"], rome["gap"]) == (2, 0.375, True, 0.625)
    assert len(table(folders / "out" / "groups.csv")) == len(found.groups)


def test_sessions_show_what_changed(tmp_path):
    one, two = blocks(((0, 0, 0), (3, 3, 3))), blocks(((0, 0, 0), (3, 3, 6)))
    two[9:11, 9:11, 9:11] = 1
    for case, array in (("x", one), ("y", two)):
        put(tmp_path / "ref" / f"{case}.nii.gz", array)
        put(tmp_path / "pred" / f"{case}.nii.gz", one)
    (tmp_path / "cases.csv").write_text("case,subject,session\nx,p1,2\ny,p1,10\n")
    found = medseg.evaluate(
        tmp_path / "pred", tmp_path / "ref", tmp_path / "out", cases=tmp_path / "cases.csv", protocol=QUICK
    )
    rows = {row["map"]: row for row in found.sessions}
    assert (rows["reference"]["from"], rows["reference"]["to"]) == ("2", "10")
    assert (rows["reference"]["n_new"], rows["reference"]["n_growing"]) == (1, 1)
    assert rows["reference"]["volume_change_ml"] == pytest.approx((54 + 8 - 27) * 6 / 1000)
    assert (rows["prediction"]["n_new"], rows["prediction"]["n_stable"]) == (0, 1)
    assert len(table(tmp_path / "out" / "longitudinal.csv")) == 2


def test_instances_of_a_protocol(folders):
    spots = np.zeros_like(REF)
    spots[0:2, 0:2, 0:2] = spots[5:8, 5:8, 5:8] = spots[11, 11, 11] = 1
    put(folders / "ref" / "a.nii.gz", spots)
    spots = spots.copy()
    spots[0:2, 0:2, 0:2] = 0
    put(folders / "pred" / "a.nii.gz", spots)
    rules = Protocol(draws=50, instances=Instances(iou=(0.5,), minimum_mm3=7))
    a = values(medseg.evaluate(folders / "pred" / "a.nii.gz", folders / "ref" / "a.nii.gz", protocol=rules), "a")
    assert (a["n_ref"], a["n_pred"], a["recall@0.5iou"], a["precision@0.5iou"]) == (2, 1, 0.5, 1.0)


def test_instances_of_all_cases_are_pooled(tmp_path):
    # 1 of 1 found in one case, 1 of 3 in the other: the mean of the cases is 2/3, of four lesions two are found.
    many = np.zeros_like(REF)
    many[0:2, 0:2, 0:2] = many[5:8, 5:8, 5:8] = many[9:11, 0:2, 0:2] = 1
    some = np.zeros_like(REF)
    some[5:8, 5:8, 5:8] = 1
    for case, pred, ref in (("a", some, some), ("b", some, many)):
        put(tmp_path / "pred" / f"{case}.nii.gz", pred)
        put(tmp_path / "ref" / f"{case}.nii.gz", ref)
    rules = Protocol(draws=50, instances=Instances(iou=(0.5,)))
    found = medseg.evaluate(tmp_path / "pred", tmp_path / "ref", tmp_path / "out", protocol=rules)
    assert found.summary["label 1"]["recall@0.5iou"].mean == pytest.approx(2 / 3)
    assert found.pooled["label 1"]["recall@0.5iou"] == 0.5
    written = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert written["pooled_instances"]["label 1"]["n_ref"] == 4


def test_centrelines_of_a_protocol(folders):
    rules = Protocol(draws=50, centreline=("label 1", "label 11"))
    found = medseg.evaluate(folders / "pred", folders / "ref", protocol=rules)
    assert "cldice" in found.summary["label 1"]
    assert "cldice" not in found.summary["label 2"]
    assert "the protocol asks for structures that no map has: label 11" in found.notes


def test_maps_of_certainty_beside_a_prediction(tmp_path):
    for case, array in (("a", MOVED), ("b", REF)):
        put(tmp_path / "ref" / f"{case}.nii.gz", REF)
        folder = tmp_path / "pred" / case
        put(folder / "segmentation.nii.gz", array)
        wrong = (array != REF).astype(np.float32)
        put(folder / "uncertainty_entropy.nii.gz", 0.1 + 0.8 * wrong)
        probabilities = np.stack([np.where(array == c, 0.8, 0.1) for c in range(3)], -1).astype(np.float32)
        put(folder / "probabilities.nii.gz", probabilities)
    found = medseg.evaluate(tmp_path / "pred", tmp_path / "ref", tmp_path / "out", protocol=QUICK)
    a, b = (values(found, case, "all structures") for case in "ab")
    assert (a["auroc@5mm"], a["auroc@whole"], a["auprc@whole"]) == (1.0, 1.0, 1.0)
    assert "auroc@5mm" not in b  # nothing is wrong there: undefined, left out
    assert b["ece_whole"] == pytest.approx(0.2, abs=1e-6)
    assert b["brier_whole"] == pytest.approx(0.2**2 + 2 * 0.1**2)
    assert found.certainty.curve.risk[-1] == pytest.approx((1 - (0.75 + 1) / 2) / 2)
    assert found.certainty.calibration.n == sum(int(((p > 0) | (REF > 0)).sum()) for p in (MOVED, REF))
    assert "Risk and coverage" in (tmp_path / "out" / "report.html").read_text()


def test_probabilities_that_do_not_fit_are_noted_and_the_case_stands(folders):
    np.savez(folders / "pred" / "a.npz", probabilities=np.ones((3, 12, 12, 12), np.float32))
    found = medseg.evaluate(folders / "pred", folders / "ref", protocol=QUICK)
    assert found.exit_code == 0
    assert any(note.startswith("a: MS-E104") for note in found.notes)


def test_nnunet_probabilities(folders):
    channels = np.stack([np.where(c == REF, 0.9, 0.05) for c in range(3)]).astype(np.float32)
    np.savez(folders / "pred" / "a.npz", probabilities=channels.transpose(0, 3, 2, 1))
    found = medseg.evaluate(folders / "pred", folders / "ref", protocol=QUICK)
    assert values(found, "a", "all structures")["ece_foreground"] == pytest.approx(0.1, abs=1e-6)


def test_nothing_matches(folders):
    put(folders / "other" / "q.nii.gz", REF)
    with pytest.raises(InputError, match="MS-E101"):
        medseg.evaluate(folders / "other", folders / "ref", folders / "out")
    assert not (folders / "out").exists()


def test_wrong_labels_end_the_run(folders):
    with pytest.raises(UsageError, match="MS-U160"):
        medseg.evaluate(folders / "pred", folders / "ref", labels={"liver": "hepar"})


def test_masks_against_values_without_names_need_labels(folders):
    masks = folders / "masks" / "a"
    put(masks / "liver.nii.gz", (REF == 2).astype(np.uint8))
    put(masks / "aorta.nii.gz", (REF == 1).astype(np.uint8))
    (failure,) = medseg.evaluate(masks, folders / "ref" / "a.nii.gz", protocol=QUICK).failures
    assert (failure.code, "liver=liver:5" in failure.mend) == ("MS-E105", True)
    wanted = {"the liver": {"pred": "liver", "ref": 2}}
    found = medseg.evaluate(masks, folders / "ref" / "a.nii.gz", protocol=QUICK, labels=wanted)
    assert values(found, "a", "the liver")["dice"] == 1.0


def test_totalsegmentator_s_masks_and_its_label_map(data):
    folder = data("totalseg")
    found = medseg.evaluate(folder / "example_seg_fast", folder / "example_seg_fast.nii.gz", protocol=QUICK)
    assert found.exit_code == 0
    assert found.summary["liver"]["dice"].mean == 1.0
    assert min(metrics["dice"].mean for metrics in found.summary.values()) == 1.0
    assert len(found.summary) >= 116


def test_real_pair_equals_monai(data):
    import torch
    from monai.metrics import compute_dice, compute_hausdorff_distance

    one, two = (data("hippocampus") / "labelsTr" / f"hippocampus_{n}.nii.gz" for n in ("008", "015"))
    found = medseg.evaluate(one, two, protocol=QUICK, resample=True)
    ref = medseg.read(two)
    from medseg.resample import resample_labels

    pred = resample_labels(medseg.read(one).array, medseg.read(one).grid, ref.grid)
    for value in (1, 2):
        pair = [torch.from_numpy(np.ascontiguousarray(a == value))[None, None] for a in (pred, ref.array)]
        ours = values(found, "hippocampus_015", f"label {value}")
        assert ours["dice"] == pytest.approx(float(compute_dice(*pair)), abs=1e-6)
        hd = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=ref.spacing_mm)
        assert ours["hd95_mm"] == pytest.approx(float(hd), abs=1e-4)
