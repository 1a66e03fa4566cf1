"""`medseg evaluate -c instances` from files to files, as `medseg predict` and as nnDetection write them."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

import medseg
from medseg.metrics.instance import instance_metrics
from medseg.workflows.evaluation.protocol import load_protocol

QUICK = replace(load_protocol("instances"), draws=50)
AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])
SHAPE = (30, 8, 8)


def blocks(*spans):
    """A map with instance n + 1 at each (start, stop) of the first axis."""
    out = np.zeros(SHAPE, np.uint16)
    for number, (start, stop) in enumerate(spans, 1):
        out[start:stop, 2:6, 2:6] = number
    return out


def put(path, array, table=None, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(array, affine).to_filename(path)
    if table is not None:
        path.with_name(path.name.removesuffix(".nii.gz") + ".json").write_text(json.dumps(table))
    return path


def predicted(folder, array, *rows):
    """A case folder of `medseg predict`: a row is (structure, value, score)."""
    listed = [
        {"id": n, "structure": s, "value": v, "score": p, "voxels": int((array == n).sum())}
        for n, (s, v, p) in enumerate(rows, 1)
    ]
    put(folder / "segmentation.nii.gz", (array > 0).astype(np.uint8))
    put(folder / "instances.nii.gz", array, {"case": folder.name, "instances": listed})
    (folder / "record.json").write_text("{}")


def values(found, case, structure):
    return {r.metric: r.value for r in found.rows if (r.case, r.structure) == (case, structure)}


def run(folder, **options):
    return medseg.evaluate(folder / "pred", folder / "ref", **{"protocol": QUICK, **options})


@pytest.fixture
def folders(tmp_path):
    """Two classes in two cases and a third without a prediction; the data set names the classes."""
    ref = blocks((0, 4), (6, 10), (12, 16))
    for case in "abc":
        put(tmp_path / "ref" / f"{case}.nii.gz", ref, {"instances": {"1": 0, "2": 0, "3": 1}})
    names = {"instances": {"classes": ["nucleus", "cell"]}}
    (tmp_path / "ref" / "dataset.json").write_text(json.dumps(names))
    predicted(tmp_path / "pred" / "a", ref, ("nucleus", 1, 0.9), ("nucleus", 1, 0.8), ("cell", 2, 0.7))
    wrong = blocks((0, 4), (6, 8), (12, 16), (20, 24))  # found, half, of the other class, made up
    predicted(
        tmp_path / "pred" / "b",
        wrong,
        ("nucleus", 1, 0.6),
        ("nucleus", 1, 0.95),
        ("nucleus", 1, 0.85),
        ("cell", 2, 0.3),
    )
    return tmp_path


def test_classes_by_hand(folders):
    found = run(folders)
    assert list(found.summary) == ["nucleus", "cell", "all instances"]
    nucleus, cell, both = (values(found, "b", name) for name in found.summary)
    assert (nucleus["n_ref"], nucleus["n_pred"], nucleus["f1@0.5iou"], nucleus["f1@0.1iou"]) == (2, 3, 0.8, 0.8)
    assert (cell["n_ref"], cell["n_pred"], cell["ap@0.1iou"]) == (1, 1, 0.0)
    assert (both["n_ref"], both["n_pred"], both["matched@0.5iou"]) == (3, 4, 2)
    assert nucleus["pq"] == pytest.approx(1 / 2.5)  # an IoU of exactly .5 is no match there
    # By falling score .95 hit (half), .85 miss, .6 hit: precision 1, 1/2, 2/3.
    assert nucleus["ap@0.5iou"] == nucleus["box_ap@0.5iou"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert nucleus["dice_matched@0.1iou"] == pytest.approx((1 + 2 / 3) / 2)
    assert nucleus["hd95_matched_mm@0.1iou"] == pytest.approx(1.0)  # 0 mm, and 2 voxels of 1 mm
    assert {r.definition for r in found.rows if r.metric.startswith("hd95")} == {"border"}
    assert values(found, "c", "cell")["recall@0.1iou"] == 0
    assert {r.status for r in found.rows if r.case == "c"} == {"pred_missing"}
    # All cases: nuclei by score .95 hit, .9 hit, .85 miss, .8 hit, .6 hit, of six.
    assert found.pooled["nucleus"]["ap@0.1iou"] == pytest.approx((34 * 1 + 33 * 4 / 5) / 101)
    assert found.pooled["all instances"]["cpm@0.1iou"] > 0
    assert found.exit_code == 0


def test_what_is_written(folders):
    out = folders / "out"
    found = run(folders, out=out)
    assert sorted(p.name for p in out.iterdir()) == ["cases.csv", "failures.csv", "report.html", "summary.json"]
    content = json.loads((out / "summary.json").read_text())
    assert content["protocol"]["maps"] == "instances"
    assert content["pooled_instances"]["nucleus"]["sensitivity_1fp@0.1iou"] == pytest.approx(4 / 6)
    lines = {(r["structure"], r["metric"]): r for r in content["pooled_intervals"]}
    line = lines["nucleus", "ap@0.1iou"]
    assert line["value"] == pytest.approx(found.pooled["nucleus"]["ap@0.1iou"])
    assert 0 <= line["low"] < line["value"] < line["high"] <= 1
    assert {m for _, m in lines} == set(QUICK.headline)
    page = (out / "report.html").read_text()
    assert "Instances of all cases together" in page
    assert "FROC" in page
    assert page.count('<figure class="worst">') >= 3


def test_another_prediction_stands_beside(folders):
    for case in "ab":
        put(folders / "other" / f"{case}.nii.gz", blocks((0, 4)), {"instances": {"1": 0}, "scores": {"1": 0.5}})
    found = run(folders, compare=folders / "other", out=folders / "out")
    line = next(r for r in found.intervals if (r["structure"], r["metric"]) == ("nucleus", "ap@0.1iou"))
    assert line["other"] == pytest.approx(34 / 101)
    assert line["difference"] == pytest.approx(line["value"] - line["other"])
    assert line["difference_low"] <= line["difference"] <= line["difference_high"]
    with (folders / "out" / "compare.csv").open(newline="") as file:
        rows = {(r["structure"], r["metric"]): r for r in csv.DictReader(file)}
    assert rows["nucleus", "recall@0.1iou"]["better"] == "prediction"
    assert "Its interval" in (folders / "out" / "report.html").read_text()


def test_plain_maps_are_of_one_class_with_score_1(tmp_path):
    pred, ref = blocks((0, 4), (8, 10), (20, 24)), blocks((0, 4), (6, 10))
    put(tmp_path / "pred" / "a.nii.gz", pred * 7)
    put(tmp_path / "ref" / "a.nii.gz", ref)
    found = run(tmp_path)
    mine = values(found, "a", "instances")
    plain = instance_metrics(
        pred,
        ref,
        spacing_mm=(1, 2, 3),
        iou=(0.1, 0.5),
        scores={1: 1, 2: 1, 3: 1},
        buckets_mm3=QUICK.instances.buckets(),
    )
    assert mine | dict(plain.rows()) == mine
    assert "no prediction has scores: every instance counts with score 1" in found.notes


def test_one_side_alone_has_classes(folders):
    for case in "abc":
        (folders / "ref" / f"{case}.json").unlink()
    (folders / "ref" / "dataset.json").unlink()
    found = run(folders)
    assert list(found.summary) == ["instances"]
    assert "only the predictions have classes: all instances count as of one class" in found.notes
    assert values(found, "b", "instances")["matched@0.5iou"] == 3


def test_a_single_class_is_called_as_the_prediction_calls_it(tmp_path):
    put(tmp_path / "ref" / "a.nii.gz", blocks((0, 4)))
    predicted(tmp_path / "pred" / "a", blocks((0, 4)), ("nodule", 1, 0.5))
    put(tmp_path / "other" / "a.nii.gz", blocks((0, 2)))
    found = run(tmp_path, compare=tmp_path / "other")
    assert list(found.summary) == ["nodule"]
    assert {row["structure"] for row in found.comparison} == {"nodule"}


def test_classes_that_only_the_other_side_names_are_scored(tmp_path):
    put(tmp_path / "ref" / "a.nii.gz", blocks((0, 4), (6, 10)), {"instances": {"1": 0, "2": 2}})
    predicted(tmp_path / "pred" / "a", blocks((0, 4)), ("nucleus", 1, 0.9))
    found = run(tmp_path)
    assert list(found.summary) == ["nucleus", "label 3", "all instances"]
    assert values(found, "a", "label 3")["recall@0.1iou"] == 0


def test_labels_name_classes_by_value(folders):
    found = run(folders, labels={"x": {"pred": 1, "ref": [1, 2]}})
    assert list(found.summary) == ["x"]
    assert values(found, "b", "x")["matched@0.5iou"] == 3
    assert "b: prediction: class value 2 belongs to no structure (1 instances)" in found.notes


def test_regions_to_ignore_and_boxes(tmp_path):
    ref = blocks((0, 4), (6, 10), (20, 30))
    put(tmp_path / "ref" / "a.nii.gz", ref, {"box_only": [2], "ignore": [3]})
    pred = blocks((0, 4), (6, 7), (18, 24), (26, 28))
    pred[9, 5, 5] = pred[6, 2, 2] = 2  # a small instance with the right box
    put(tmp_path / "pred" / "a.nii.gz", pred)
    found = run(tmp_path)
    mine = values(found, "a", "instances")
    assert (mine["n_ref"], mine["n_pred"], mine["f1@0.5iou"], mine["pq"]) == (2, 2, 1.0, 1.0)
    assert mine["dice_matched@0.1iou"] == 1.0
    assert "a: prediction: 2 instances lie mostly in regions to ignore and do not count" in found.notes


def test_the_flat_layout_and_the_folder_of_one_case(tmp_path):
    ref = put(tmp_path / "ref" / "a.nii.gz", blocks((0, 4)))
    predicted(tmp_path / "flat" / "details" / "a", blocks((0, 4)), ("x", 1, 0.5))
    (tmp_path / "flat" / "details" / "a" / "segmentation.nii.gz").rename(tmp_path / "flat" / "a.nii.gz")
    predicted(tmp_path / "one" / "a", blocks((0, 4)), ("x", 1, 0.5), ("x", 1, 0.4))
    for pred in ("flat", "one/a"):
        found = medseg.evaluate(tmp_path / pred, ref if "one" in pred else ref.parent, protocol=QUICK)
        assert found.summary["x"]["ap@0.5iou"].mean == 1.0
        assert found.exit_code == 0
    assert "a: prediction: 1 instances are listed without a voxel and do not count" in found.notes
    plain = medseg.evaluate(tmp_path / "flat", ref.parent, protocol=replace(QUICK, maps="structures"))
    assert plain.pairs.pairs[0].pred.files[0].name == "a.nii.gz"


def test_the_label_map_is_found_where_maps_of_structures_are_asked_for(folders):
    found = medseg.evaluate(folders / "pred", folders / "ref")
    assert {pair.pred.files[0].name for pair in found.pairs.pairs if pair.pred} == {"segmentation.nii.gz"}


def test_instances_go_onto_the_grid_of_the_reference(tmp_path):
    array = blocks((0, 4), (6, 10))
    put(tmp_path / "ref" / "a.nii.gz", array)
    turned = AFFINE @ np.array([[-1, 0, 0, 29], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    put(tmp_path / "pred" / "a.nii.gz", array[::-1].copy(), affine=turned)
    assert run(tmp_path).summary["instances"]["pq"].mean == 1.0
    put(tmp_path / "pred" / "a.nii.gz", np.repeat(array, 2, 0), affine=np.diag([0.5, 2.0, 3.0, 1.0]))
    assert [f.code for f in run(tmp_path).failures] == ["MS-E102"]
    assert run(tmp_path, resample=True).summary["instances"]["f1@0.5iou"].mean == 1.0


def test_sessions_follow_classes(folders):
    (folders / "cases.csv").write_text("case,subject,session\na,p,1\nb,p,2\nc,q,1\n")
    found = run(folders, cases=folders / "cases.csv")
    changes = {(r["structure"], r["map"]): r["n_vanished"] for r in found.sessions}
    assert (changes["nucleus", "reference"], changes["cell", "prediction"]) == (0, 1)


def test_small_instances_are_none(tmp_path):
    put(tmp_path / "ref" / "a.nii.gz", blocks((0, 1), (6, 10)))
    put(tmp_path / "pred" / "a.nii.gz", blocks((6, 10)))
    rules = replace(QUICK, instances=replace(QUICK.instances, minimum_mm3=97))  # one slice of 16 voxels has 96 mm3
    assert run(tmp_path, protocol=rules).summary["instances"]["n_ref"].mean == 1
    rules = replace(rules, instances=replace(QUICK.instances, minimum_mm3=96))
    assert run(tmp_path, protocol=rules).summary["instances"]["n_ref"].mean == 2


def test_no_instances_anywhere(tmp_path):
    for side in ("pred", "ref"):
        put(tmp_path / side / "a.nii.gz", blocks())
    found = run(tmp_path, out=tmp_path / "out")
    assert found.summary["instances"]["ap@0.5iou"].mean == 1.0
    assert "cpm@0.1iou" not in {row["metric"] for row in found.intervals}


@pytest.mark.parametrize(
    ("table", "code", "words"),
    [
        ("[1", "MS-E107", "no valid JSON"),
        ({"instances": [{"id": 1}]}, "MS-E107", "a row lacks"),
        ({"instances": [{"id": 1, "structure": "x", "value": 0, "score": 1}]}, "MS-E107", "a row lacks"),
        ({"instances": [{"id": 1, "structure": "x", "value": 1, "score": None}]}, "MS-E107", "a row lacks"),
        ({"instances": [{"id": 1, "structure": "x", "value": 1, "score": 1}] * 2}, "MS-E107", "stands twice"),
        ({"instances": []}, "MS-E107", "2 instances without a class here, such as 1"),
        ({"instances": {"1": 0}}, "MS-E107", "1 instances without a class here, such as 2"),
        ({"scores": {"1": 0.5}}, "MS-E107", "1 instances without a score here, such as 2"),
        ({"scores": {"1": "high"}}, "MS-E107", '"scores" does not map'),
        ({"scores": [0.5]}, "MS-E107", '"scores" does not map'),
        ({"instances": {"1": -1}}, "MS-T121", "class index"),
    ],
)
def test_json_that_cannot_be_used_fails_its_case_alone(tmp_path, table, code, words):
    for case in "ab":
        put(tmp_path / "ref" / f"{case}.nii.gz", blocks((0, 4), (6, 10)), {"instances": {"1": 0, "2": 0}})
        put(tmp_path / "pred" / f"{case}.nii.gz", blocks((0, 4), (6, 10)), {"instances": {"1": 0, "2": 0}})
    (tmp_path / "pred" / "b.json").write_text(table if isinstance(table, str) else json.dumps(table))
    found = run(tmp_path)
    assert [(f.case, f.code) for f in found.failures] == [("b", code)]
    assert words in found.failures[0].what
    assert found.exit_code == 6


def test_a_prediction_of_structures_is_refused(tmp_path):
    put(tmp_path / "ref" / "a.nii.gz", blocks((0, 4)))
    put(tmp_path / "pred" / "a" / "segmentation.nii.gz", blocks((0, 4)))
    (tmp_path / "pred" / "a" / "record.json").write_text("{}")
    found = run(tmp_path)
    assert [f.code for f in found.failures] == ["MS-E106"]
    assert "-c lesion" in found.failures[0].mend


@pytest.mark.parametrize("named", [["nucleus", "cell", "lumen"], ["nucleus", "cell"]])
def test_stuff_in_a_reference_is_background(folders, named):
    """The predictions say which classes have no instances; every number stays as it is without them."""
    before = run(folders)
    for case in "abc":
        ref = blocks((0, 4), (6, 10), (12, 16))
        ref[:, :2] = 4
        ref[20:24, 2:6, 2:6] = 5
        put(folders / "ref" / f"{case}.nii.gz", ref, {"instances": {"1": 0, "2": 0, "3": 1, "4": 2, "5": 2}})
    (folders / "ref" / "dataset.json").write_text(json.dumps({"instances": {"classes": named}}))
    files = [folders / "pred" / case / "instances.json" for case in "ab"]
    for file in files:
        content = json.loads(file.read_text())
        file.write_text(json.dumps({**content, "stuff": [{"structure": "lumen", "value": 3}]}))
    found = run(folders, out=folders / "out")
    assert list(found.summary) == ["nucleus", "cell", "all instances"]
    assert [(r.case, r.structure, r.metric, r.value) for r in found.rows] == [
        (r.case, r.structure, r.metric, pytest.approx(r.value, nan_ok=True)) for r in before.rows
    ]
    files[0].write_text(json.dumps({**content, "stuff": [{"structure": "lumen"}]}))
    assert any("MS-E107" in str(failure) for failure in run(folders).failures)


def test_an_index_that_the_reference_calls_something_else_is_not_stuff(folders):
    for case in "ab":
        file = folders / "pred" / case / "instances.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "stuff": [{"structure": "lumen", "value": 2}]}))
    assert values(run(folders), "a", "cell")["n_ref"] == 1
