"""Every shipped bundle, and two small ones, as MONAI, MONAI Label, MONAI Deploy and MonaiAlgo read them.

None of these programs is installed: what they do with a bundle is replayed here step by step. All must give the
very labels that `medseg predict` gives.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.data import MetaTensor
from monai.transforms import Compose, Resize

from medseg.bundle import check_bundle, load_bundle, shipped_bundles
from medseg.readers.nifti import read_nifti
from medseg.readers.options import ReadOptions
from medseg.workflows.segment import segment

SCRIPTS = Path(__file__).parents[2] / "scripts"
# A bundle without weights is a recipe: there is nothing to compare.
SHIPPED = [name for name, root in shipped_bundles().items() if (root / "models" / "model.pt").is_file()]
# The recipes for instances with a small network of random weights; value: the score that a few of its guesses have.
SMALL = {"phantom_instance_segmentation": 0.34, "vertebrae_mri_instance_segmentation": 0.55}
# Training a shipped bundle for instances is the same as training its small one, but for the time it takes.
TRAINED = [
    "zoo kind",
    "own kind",
    *(name for name in SHIPPED if name not in SMALL),
    *(f"small {name}" for name in SMALL),
]


@pytest.fixture(params=["instance kind", "zoo kind", "own kind", *SHIPPED, *(f"small {name}" for name in SMALL)])
def root(request, build, tmp_path) -> Path:
    """A bundle's folder."""
    shipped = shipped_bundles().get(request.param.removeprefix("small "))
    if request.param.startswith("small "):
        return build.write_small_recipe(shipped, tmp_path / "small" / shipped.name, min_score=SMALL[shipped.name])
    if shipped is not None:
        return shipped
    if request.param == "instance kind":
        return build.write_instance_bundle(tmp_path / "blobs_instance_segmentation")
    return build.write_bundle(tmp_path / "blobs_segmentation", ours=request.param == "own kind")


@pytest.fixture
def scan(tmp_path) -> Path:
    """A NIfTI file with its axes in another order than RAS, sides of different length, and an offset."""
    rng = np.random.default_rng(0)
    i, j, k = np.meshgrid(*(np.linspace(-1, 1, n) for n in (47, 34, 37)), indexing="ij")
    image = 400 * np.exp(-3 * (i**2 + (j - 0.2) ** 2 + 2 * k**2)) + 200 * (i > 0.1) + rng.normal(100, 10, i.shape)
    affine = np.array([[0, -1, 0, 40], [1, 0, 0, -20], [0, 0, -1, 12], [0, 0, 0, 1]], float)
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(np.clip(image, 0, None).astype(np.float32), affine), path)
    return path


def labels_of_predict(root: Path, scan: Path) -> np.ndarray:
    """The label map, or the map of instances."""
    made = segment(read_nifti(scan, ReadOptions()), load_bundle(root))
    return made.labels.array if made.instances is None else made.instances.ids.array


def plain_state(root: Path) -> dict:
    return torch.load(root / "models" / "model.pt")


def test_the_small_bundles_find_more_than_one_label(root, scan):
    labels = labels_of_predict(root, scan)
    assert labels.shape == nib.load(scan).shape
    if (
        root.name.startswith("blobs_") or root.parent.name == "small"
    ):  # else the comparisons below would compare empty maps
        assert len(np.unique(labels)) > 1


def test_it_keeps_its_promises(root):
    problems = [str(problem) for problem in check_bundle(root) if not problem.warning]
    assert problems == []


def test_monai_bundle_run_from_another_folder(root, scan, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    scan.rename(tmp_path / "in" / scan.name)
    monkeypatch.chdir(tmp_path)
    workflow = ConfigWorkflow(
        str(root / "configs" / "inference.json"),
        meta_file=str(root / "configs" / "metadata.json"),
        workflow_type="infer",
        logging_file=False,
        bundle_root=str(root),
        dataset_dir=str(tmp_path / "in"),
        output_dir=str(tmp_path / "out"),
        device="$torch.device('cpu')",
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.run()
    (saved,) = (tmp_path / "out").rglob("*.nii.gz")
    expected = labels_of_predict(root, tmp_path / "in" / scan.name)
    np.testing.assert_array_equal(np.asarray(nib.load(saved).dataobj), expected)
    np.testing.assert_allclose(nib.load(saved).affine, nib.load(tmp_path / "in" / scan.name).affine, atol=1e-3)


def test_monai_label(root, scan):
    """BundleInferTask: inference.json alone, an `image_path` beside `image`, SaveImaged out, Restored at the end."""
    parser = ConfigParser(ConfigParser.load_config_file(root / "configs" / "inference.json"))
    parser.update({"bundle_root": str(root), "device": "cpu"})
    network = parser.get_parsed_content("network_def").to("cpu")
    network.load_state_dict(plain_state(root))
    network.eval()
    data = {"image": str(scan), "image_path": str(scan), "model": root.name}
    data = parser.get_parsed_content("preprocessing")(data)
    with torch.no_grad():
        data["pred"] = parser.get_parsed_content("inferer")(data["image"][None], network)[0]
    for transform in parser.get_parsed_content("postprocessing").transforms:
        if type(transform).__name__ != "SaveImaged":
            data = transform(data)
    pred = data["pred"]
    shape = nib.load(scan).shape
    if tuple(pred.shape[-3:]) != shape:
        pred = Resize(shape, mode="nearest")(pred)
    np.testing.assert_array_equal(np.asarray(pred[0]), labels_of_predict(root, scan))


def test_monai_label_reads_the_names_of_labels_from_metadata(root):
    metadata = json.loads((root / "configs" / "metadata.json").read_text(encoding="utf-8"))
    described = next(iter(metadata["network_data_format"]["outputs"].values()))
    named = described["channel_def"]
    if described["format"] == "instances":  # one channel; its values are numbers of instances
        assert list(named) == ["0"]
        return
    bundle = load_bundle(root)
    assert {int(k): v.lower() for k, v in named.items() if v.lower() != "background"} == {
        label.value: label.name.lower() for label in bundle.labels
    }


def test_monai_deploy(root, scan):
    """MonaiBundleInferenceOperator: metadata and inference config, loaders and savers out, an array in memory."""
    parser = ConfigParser()
    parser.read_config(root / "configs" / "inference.json")
    parser.read_meta(root / "configs" / "metadata.json")
    parser["bundle_root"] = str(root)

    def without_files(key):
        compose = parser.get_parsed_content(key)
        return Compose([t for t in compose.transforms if not type(t).__name__.startswith(("LoadImage", "SaveImage"))])

    before, after = without_files("preprocessing"), without_files("postprocessing")
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(plain_state(root), strict=True)
    file = nib.load(scan)
    meta = {
        "affine": file.affine.copy(),
        "original_affine": file.affine.copy(),
        # the SDK says LPS of an affine that is RAS, which MONAI's own Orientationd believes since 1.5.1
        "space": "RAS" if root.name == "blobs_segmentation" else "LPS",
        "spatial_shape": np.asarray(file.shape),
        "original_channel_dim": "no_channel",
        "row_pixel_spacing": 1.0,
    }
    (name,) = parser["_meta_"]["network_data_format"]["inputs"]
    image = MetaTensor.ensure_torch_and_prune_meta(np.asarray(file.dataobj), meta)
    with torch.no_grad():
        inputs = before({name: image})
        output = parser.get_parsed_content("inferer")(inputs=inputs[name][None], network=network.eval())
        result = after({"pred": output[0], **inputs})
    np.testing.assert_array_equal(np.asarray(result["pred"][0]), labels_of_predict(root, scan))


def _dataset(folder: Path, root: Path) -> Path:
    """Four labelled cases in the Decathlon's layout; for a recipe of instances maps of ids and their classes."""
    if root.name in SMALL:
        sys.path.insert(0, str(SCRIPTS))
        try:
            from phantoms.dataset import write_dataset
        finally:
            sys.path.remove(str(SCRIPTS))
        write_dataset(folder, "shapes", train=4, test=0, size=32)
        if len(load_bundle(root).labels) == 1:  # what has no table is of the one class
            for table in (folder / "labelsTr").glob("*.json"):
                table.unlink()
        return folder
    rng = np.random.default_rng(1)
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for number in range(4):
        label = np.zeros((24, 28, 20), np.uint8)
        label[6:16, 6:14, 5:15] = 1
        label[6:16, 14:22, 5:15] = 2
        image = (label * 100 + rng.normal(100, 10, label.shape)).astype(np.float32)
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / "imagesTr" / f"case_{number}.nii.gz")
        nib.save(nib.Nifti1Image(label, np.eye(4)), folder / "labelsTr" / f"case_{number}.nii.gz")
    return folder


def _algo(root: Path, tmp_path: Path):
    from monai.fl.client import MonaiAlgo

    overrides = {"dataset_dir": str(_dataset(tmp_path / "data", root)), "output_dir": str(tmp_path / "run")}
    overrides["device"] = "$torch.device('cpu')"
    config = json.loads((root / "configs" / "train.json").read_text(encoding="utf-8"))
    if "validation" in config:
        overrides["validation"] = ["case_3", "shapes_003"]
    evaluate = ["configs/train.json", *(["configs/evaluate.json"] if (root / "configs/evaluate.json").exists() else [])]
    return MonaiAlgo(
        bundle_root=str(root),
        config_evaluate_filename=evaluate,
        local_epochs=2 if root.name in SMALL else 10,
        train_kwargs=dict(overrides),
        eval_kwargs=dict(overrides),
    )


@pytest.mark.slow
@pytest.mark.parametrize("root", TRAINED, indirect=True)
@pytest.mark.filterwarnings("ignore:executing the bundle config:UserWarning")
def test_monai_algo(root, tmp_path):
    """The federated client: weights in, metric out, one local epoch, weights out, end."""
    from monai.fl.utils.constants import ExtraItems
    from monai.fl.utils.exchange_object import ExchangeObject

    algo = _algo(root, tmp_path)
    algo.initialize(extra={ExtraItems.CLIENT_NAME: "site"})
    weights = {key: value.float().numpy() for key, value in plain_state(root).items()}
    wrong = {key: np.zeros_like(value) for key, value in weights.items()}
    metrics = algo.evaluate(ExchangeObject(weights=weights)).metrics
    wanted = {"val_mask_ap10", "val_mask_ap50", "val_mask_ap75", "val_pq"} if root.name in SMALL else {"val_mean_dice"}
    assert wanted <= set(metrics)
    assert all(0 <= metrics[name] <= 1 for name in wanted)
    algo.evaluate(ExchangeObject(weights=wrong))
    assert all(not value.any() for value in algo.evaluator.network.parameters())  # those sent, not model.pt's
    algo.train(ExchangeObject(weights=weights))
    sent = algo.get_weights().weights
    assert set(sent) == set(weights)
    assert any(np.abs(np.asarray(value)).max() > 0 for value in sent.values())
    assert all(np.isfinite(np.asarray(value)).all() for value in sent.values())
    algo.finalize()


@pytest.mark.parametrize("root", TRAINED, indirect=True)
def test_train_config_as_monai_checks_it(root, tmp_path):
    workflow = ConfigWorkflow(
        str(root / "configs" / "train.json"),
        meta_file=str(root / "configs" / "metadata.json"),
        workflow_type="train",
        logging_file=False,
        bundle_root=str(root),
        dataset_dir=str(_dataset(tmp_path / "data", root)),
        output_dir=str(tmp_path / "run"),
        device="$torch.device('cpu')",
    )
    workflow.initialize()
    assert workflow.check_properties() == []
