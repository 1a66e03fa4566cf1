"""Validation on whole scans: the numbers of `medseg evaluate` on what `medseg predict` would write."""

from __future__ import annotations

import csv
import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

import medseg
from medseg.bundle.shipped import find_bundle
from medseg.errors import GeometryError, UsageError
from medseg.training import Better, ScanMetrics, ScanScoresd, metrics
from medseg.training.train import train_bundle
from medseg.transforms import RestoreGridd, ToNetworkGridd

METRICS = ("dice", "hd95_mm", "assd_mm", "nsd@1mm", "nsd@2mm", "boundary_iou@1mm")
LABELS = [{"value": 1, "name": "Head"}, {"value": 4, "name": "Tail"}, {"value": 1, "name": "All", "region": [1, 4]}]


def scan(folder, name, seed, empty=False):
    """A scan with voxels of 1.3 x 0.8 x 2 mm, oblique, and its label map in another order of axes."""
    rng = np.random.default_rng(seed)
    affine = np.array([[0, -0.8, 0.1, 5], [1.3, 0, 0, -7], [0, 0.1, 2.0, 3], [0, 0, 0, 1]])
    label = np.zeros((14, 18, 10), np.uint8)
    label[3:9, 4:12, 2:7] = 1
    if not empty:
        label[9:12, 4:14, 3:8] = 4
    image = nib.Nifti1Image(rng.normal(100, 9, label.shape).astype(np.float32), affine)
    for part, one in (("imagesTr", image), ("labelsTr", nib.as_closest_canonical(nib.Nifti1Image(label, affine)))):
        (folder / part).mkdir(exist_ok=True, parents=True)
        nib.save(one, folder / part / f"{name}.nii.gz")
    return {"image": str(folder / "imagesTr" / f"{name}.nii.gz"), "label": str(folder / "labelsTr" / f"{name}.nii.gz")}


def validated(case, seed):
    """A case as a validation has it: on the network's grid, with logits of some network."""
    load = Compose([
        LoadImaged(["image", "label"], reader="medseg.transforms.VolumeReader", image_only=True),
        EnsureChannelFirstd(["image", "label"]),
        ToNetworkGridd(["image", "label"], spacing_mm=(1.0, 1.0, 1.5), label_keys="label"),
    ])  # fmt: skip
    data = load(case)
    noise = torch.rand((5, *data["label"].shape[1:]), generator=torch.Generator().manual_seed(seed))
    sure = torch.nn.functional.one_hot(data["label"][0].as_tensor().long(), 5).movedim(-1, 0)
    return {**data, "pred": noise + 0.7 * sure}


def test_the_numbers_are_those_of_evaluate_on_the_files_that_predict_would_write(tmp_path):
    step = ScanScoresd(METRICS, LABELS)
    handlers = ScanMetrics(METRICS)
    engine = Engine(lambda _, batch: [batch])
    engine.state.metric_details = {}
    for name, handler in handlers.items():
        handler.attach(engine, name)
    done = []
    for n in range(3):
        data = validated(scan(tmp_path / "data", f"case_{n}", n, empty=n == 2), n)
        done.append(step(data))
        assert done[-1]["pred"] is data["pred"]  # what follows still gets the logits
        pred = RestoreGridd("pred", "image")(data)["pred"]
        (tmp_path / "pred").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(pred.numpy()[0], pred.affine.numpy()), tmp_path / "pred" / f"case_{n}.nii.gz")
    engine.run(done)
    labels = {row["name"]: row.get("region") or row["value"] for row in LABELS}
    medseg.evaluate(tmp_path / "pred", tmp_path / "data" / "labelsTr", tmp_path / "out", labels=labels)
    with (tmp_path / "out" / "cases.csv").open(encoding="utf-8") as file:
        theirs = list(csv.DictReader(file))
    compared = 0
    for name in METRICS:
        ours = engine.state.metric_details[name]
        assert ours.shape == (3, 3)
        assert engine.state.metrics[name] == pytest.approx(float(ours.double().mean()))
        for n, of_case in enumerate(ours.tolist()):
            for structure, value in zip(labels, of_case, strict=True):
                (row,) = [
                    row for row in theirs
                    if (row["case"], row["structure"], row["metric"]) == (f"case_{n}", structure, name)
                ]  # fmt: skip
                if np.isfinite(float(row["value"])):
                    assert value == pytest.approx(float(row["value"]), abs=1e-5)
                    compared += 1
                else:  # Tail is absent from case 2 and predicted in it
                    assert (n, structure) == (2, "Tail")
                    assert value == pytest.approx(
                        np.linalg.norm(np.multiply((14, 18, 10), step_mm(tmp_path))), rel=1e-5
                    )
    assert compared >= 6 * 9 - 2


def step_mm(folder):
    return nib.load(folder / "data" / "imagesTr" / "case_0.nii.gz").header.get_zooms()


def test_surfaces_are_looked_at_once_and_only_where_they_are_named(tmp_path, monkeypatch):
    data = validated(scan(tmp_path, "case", 0), 0)
    calls = []
    measure = metrics.surface_metrics
    steps = ScanScoresd(("dice",), LABELS), ScanScoresd(METRICS, LABELS)
    monkeypatch.setattr(metrics, "surface_metrics", lambda *a, **k: calls.append(k) or measure(*a, **k))
    for step, expected in zip(steps, (0, 1), strict=True):
        step(data)
        assert len(calls) == expected


def test_what_there_is_not_is_refused_when_the_recipe_is_read(tmp_path):
    for wrong in (("dice", "hausdorff"), ("nsd@",), ()):
        with pytest.raises(UsageError, match="MS-T108"):
            ScanScoresd(wrong, LABELS)
    engine = Engine(lambda *_: [ScanScoresd(("dice",), LABELS)(validated(scan(tmp_path, "case", 0), 0))])
    ScanMetrics(["hd95_mm"])["hd95_mm"].attach(engine, "hd95_mm")
    with pytest.raises(UsageError, match=r"MS-T108 hd95_mm is to be told|MS-T108 .*hd95_mm is to be told"):
        engine.run([0])


def test_a_label_map_that_lies_elsewhere_is_refused(tmp_path):
    data = validated(scan(tmp_path, "case", 0), 0)
    nib.save(nib.Nifti1Image(np.ones((9, 9, 9), np.uint8), np.eye(4)), tmp_path / "labelsTr" / "case.nii.gz")
    with pytest.raises(GeometryError, match=r"MS-G10[23]"):
        ScanScoresd(("dice",), LABELS)(data)


def test_distances_are_better_when_small():
    assert Better("hd95_mm")(1.0, 2.0)
    assert not Better("hd95_mm")(2.0, 1.0)
    assert Better("nsd@1mm")(0.9, 0.8)
    assert not Better("dice")(0.8, 0.8)


def test_a_run_tells_them_in_its_table_and_stops_at_the_best_distance(tmp_path):
    rng = np.random.default_rng(0)
    for n in range(3):
        label = np.zeros((16, 16, 16), np.uint8)
        label[4:12, 4:8, 4:12], label[4:12, 8:12, 4:12] = 1, 2
        image = (label > 0) * 50.0 + rng.normal(100, 5, label.shape)
        for part, array in (("imagesTr", image.astype(np.float32)), ("labelsTr", label)):
            (tmp_path / "data" / part).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.diag([1.5, 1, 1, 1])), tmp_path / "data" / part / f"cube_{n}.nii.gz")
    recipe = tmp_path / "recipe"
    shutil.copytree(find_bundle("hippocampus_mri_segmentation"), recipe, ignore=shutil.ignore_patterns("models"))
    for name in ("train", "inference"):
        path = recipe / "configs" / f"{name}.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config["network_def"]["features"] = [4, 8, 8, 8]
        if name == "train":
            config |= {"patch_size": [16, 16, 16], "val_interval": 1}
            validate = config["validate"]
            named = {"_target_": "medseg.training.ScanScoresd", "metrics": ["dice", "hd95_mm"], "labels": "@labels"}
            validate["postprocessing"]["transforms"].insert(0, named)
            validate["key_metric"] = {"_target_": "medseg.training.ScanMetrics", "metrics": ["hd95_mm"]}
            validate["evaluator"] |= {
                "additional_metrics": {"_target_": "medseg.training.ScanMetrics", "metrics": ["dice"]},
                "metric_cmp_fn": {"_target_": "medseg.training.Better", "metric": "hd95_mm"},
            }
        path.write_text(json.dumps(config), encoding="utf-8")
    run = train_bundle(recipe, tmp_path / "data", tmp_path / "run", epochs=2)
    with (run / "training" / "history.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[5:] == ["hd95_mm", "dice", "Anterior hippocampus hd95_mm", "Posterior hippocampus hd95_mm"]
    for row in rows:
        both = [float(row[f"{part} hippocampus hd95_mm"]) for part in ("Anterior", "Posterior")]
        assert float(row["hd95_mm"]) == pytest.approx(sum(both) / 2, rel=1e-5)
        assert 0 <= float(row["dice"]) <= 1
