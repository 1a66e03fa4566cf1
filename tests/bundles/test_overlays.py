"""The overlays of the shipped bundle and its real cases, run as a user of MONAI types them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.bundle import find_bundle, load_bundle
from medseg.bundle.weights import read_weights
from medseg.readers.open import read
from medseg.workflows.predict import predict
from medseg.writers.nifti import write_nifti

BUNDLE = "hippocampus_mri_segmentation"


def bundle_run(configs: list[Path], *options: str, folder: Path, processes: int = 1) -> str:
    """`python -m monai.bundle run`, or `torchrun`, in `folder`; returns what it printed."""
    launcher = [] if processes == 1 else ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
    command = [*launcher, *([str(processes)] if launcher else []), "-m", "monai.bundle", "run"]
    named = [str(path) for path in configs]
    done = subprocess.run(
        [sys.executable, *command, "--config_file", str(named) if len(named) > 1 else named[0], *options],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """The shipped recipe with a small network and patch, and eight noisy cubes to train on in data/."""
    root = tmp_path_factory.mktemp("overlays") / "cubes_segmentation"
    shutil.copytree(find_bundle(BUNDLE), root, ignore=shutil.ignore_patterns("models"))
    path = root / "configs" / "train.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["network_def"]["features"] = [4, 8, 8, 8]
    config |= {"patch_size": [16, 16, 16], "val_interval": 1, "epochs": 5, "validation": ["cube_0", "cube_1"]}
    path.write_text(json.dumps(config), encoding="utf-8")
    rng = np.random.default_rng(0)
    for n in range(8):
        label = np.zeros((16, 16, 16), np.uint8)
        label[4:12, 4:8, 4:12], label[4:12, 8:12, 4:12] = 1, 2
        image = (label > 0) * 50.0 + rng.normal(100, 5, label.shape)
        for part, array in (("imagesTr", image.astype(np.float32)), ("labelsTr", label)):
            (root / "data" / part).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), root / "data" / part / f"cube_{n}.nii.gz")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("budget", [[], ["--minutes", "0.05", "--epochs", "100000"]], ids=["epochs", "minutes"])
def test_two_processes_train_one_network_and_one_of_them_writes_it(small, tmp_path, budget):
    configs = [small / "configs" / f"{name}.json" for name in ("train", "multi_gpu_train")]
    out = tmp_path / "run"
    said = bundle_run(
        configs, "--bundle_root", str(small), "--output_dir", str(out), *budget, folder=tmp_path, processes=2
    )
    assert said.count("saved final weights") == 1
    weights = read_weights(out / "model.pt")
    assert not any(key.startswith("module.") for key in weights)
    assert len(list(out.glob("resume_*.pt"))) == 1
    # What was trained is what one process evaluates, with the other overlay.
    evaluate = [small / "configs" / f"{name}.json" for name in ("train", "evaluate")]
    options = [
        "--bundle_root",
        str(small),
        "--load_path",
        str(out / "model.pt"),
        "--output_dir",
        str(tmp_path / "eval"),
    ]
    bundle_run(evaluate, *options, folder=tmp_path)
    (header, *rows) = (tmp_path / "eval" / "val_mean_dice_raw.csv").read_text(encoding="utf-8").splitlines()
    assert header == "filename,class0,class1,mean"
    assert [Path(row.split(",")[0]).name for row in rows] == ["cube_0.nii.gz", "cube_1.nii.gz"]


INSTANCES = {"phantom_instance_segmentation": 0.34, "vertebrae_mri_instance_segmentation": 0.55}


@pytest.mark.slow
@pytest.mark.parametrize("name", INSTANCES)
def test_a_recipe_for_instances_in_two_processes_and_its_scores(name, build, tmp_path, monkeypatch):
    """Two processes train one network, one writes it; one process scores it as they do, and predicts with it."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    from phantoms.dataset import write_dataset

    root = build.write_small_recipe(find_bundle(name), tmp_path / name, min_score=INSTANCES[name])
    run, scores = tmp_path / "run", tmp_path / "eval"
    write_dataset(root / "data", "shapes", train=6, test=1, size=32)
    if name.startswith("vertebrae"):  # one class: what has no table is of it
        for table in (root / "data" / "labelsTr").glob("*.json"):
            table.unlink()
    shutil.rmtree(root / "models")
    train, several, evaluate, inference = (
        root / "configs" / f"{part}.json" for part in ("train", "multi_gpu_train", "evaluate", "inference")
    )
    held_out = ["--validation", "['shapes_004','shapes_005']", "--bundle_root", str(root)]
    said = bundle_run(
        [train, several], *held_out, "--epochs", "2", "--output_dir", str(run), folder=tmp_path, processes=2
    )
    assert said.count("saved final weights") == 1
    weights = read_weights(run / "model.pt")
    assert not any(key.startswith("module.") for key in weights)
    assert len(list(run.glob("resume_*.pt"))) <= 1
    options = ["--load_path", str(run / "model.pt"), "--output_dir", str(scores)]
    bundle_run([train, evaluate], *held_out, *options, folder=tmp_path)
    told = dict(line.split(",") for line in (scores / "metrics.csv").read_text(encoding="utf-8").splitlines())
    assert set(told) == {"val_mask_ap10", "val_mask_ap50", "val_mask_ap75", "val_pq"}
    assert all(0 <= float(value) <= 1 for value in told.values())
    (root / "models").mkdir()
    shutil.copy(run / "model.pt", root / "models")
    bundle_run([inference], "--bundle_root", str(root), "--output_dir", str(tmp_path / "monai"), folder=tmp_path)
    (theirs,) = (tmp_path / "monai").rglob("*_instances.nii.gz")
    predict(root / "data" / "imagesTs", root, tmp_path / "medseg", device="cpu", outside_domain=True)
    (ours,) = (tmp_path / "medseg").rglob("instances.nii.gz")
    np.testing.assert_array_equal(np.asarray(nib.load(ours).dataobj), np.asarray(nib.load(theirs).dataobj))


@pytest.mark.slow
def test_real_cases_from_another_folder_give_the_labels_of_predict(data, tmp_path):
    root = find_bundle(BUNDLE)
    if not (root / "models" / "model.pt").is_file():
        pytest.skip(f"{BUNDLE} has no weights yet")
    scans = tmp_path / "scans"
    scans.mkdir()
    names = ["hippocampus_001", "hippocampus_004", "hippocampus_006"]
    for name in names:
        shutil.copy(data("hippocampus") / "imagesTr" / f"{name}.nii.gz", scans)
    options = ["--bundle_root", str(root), "--dataset_dir", str(scans), "--output_dir", str(tmp_path / "monai")]
    bundle_run([root / "configs" / "inference.json"], *options, folder=tmp_path)
    report = predict(scans, load_bundle(root), tmp_path / "medseg", device="cpu")
    assert [case.status for case in report.cases] == ["done"] * 3
    for name in names:
        theirs = nib.load(tmp_path / "monai" / name / f"{name}_seg.nii.gz")
        ours = nib.load(tmp_path / "medseg" / name / "segmentation.nii.gz")
        assert len(np.unique(np.asarray(ours.dataobj))) == 3
        np.testing.assert_array_equal(np.asarray(ours.dataobj), np.asarray(theirs.dataobj))
        np.testing.assert_array_equal(ours.affine, theirs.affine)


@pytest.mark.slow
def test_a_dicom_folder_the_same_scan_as_nifti_and_monai_give_one_result(data, tmp_path):
    root = find_bundle(BUNDLE)
    if not (root / "models" / "model.pt").is_file():
        pytest.skip(f"{BUNDLE} has no weights yet")
    folder = data("dicom") / "dev" / "mr_hippocampus_crop_13"
    volume = read(folder)
    turned = volume.reoriented("PIR")
    write_nifti(tmp_path / "same.nii.gz", volume.array, volume.affine)
    write_nifti(tmp_path / "turned.nii.gz", turned.array, turned.affine)
    bundle = load_bundle(root)
    labels = []
    for source in (folder, tmp_path / "same.nii.gz", tmp_path / "turned.nii.gz"):
        (case,) = predict(source, bundle, tmp_path / "out" / source.name, device="cpu").cases
        labels.append(read(case.folder / "segmentation.nii.gz"))
    assert len(np.unique(labels[0].array)) == 3
    np.testing.assert_array_equal(labels[0].array, labels[1].array)
    np.testing.assert_array_equal(labels[0].array, labels[2].reoriented(labels[0].grid.axcodes).array)
    options = ["--bundle_root", str(root), "--datalist", str([{"image": str(folder)}])]
    bundle_run(
        [root / "configs" / "inference.json"], *options, "--output_dir", str(tmp_path / "monai"), folder=tmp_path
    )
    (saved,) = (tmp_path / "monai").rglob("*.nii.gz")
    np.testing.assert_array_equal(np.asarray(nib.load(saved).dataobj), labels[0].array)
