"""A model that nnU-Net trains on the spot is imported, and agrees with nnU-Net's own predictions.

nnU-Net lives in a venv of its own (scripts/nnunet-venv.sh). One process there plans, trains two folds of 2 short epochs and
predicts (with_nnunet.py); the tests import what it left and predict the same scans.
"""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

import medseg
from medseg.bundle.check import check_bundle
from medseg.bundle.load import load_bundle
from medseg.bundle.nnunet import import_nnunet
from medseg.bundle.nnunet.architecture import network_def
from medseg.bundle.nnunet.checkpoint import without_duplicates
from medseg.networks import NnunetUNet
from medseg.workflows.method import parse_method
from medseg.workflows.segment import segment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

LOG = logging.getLogger(__name__)
PROBE = Path(__file__).with_name("with_nnunet.py")
VENV = Path(__file__).parents[3] / ".venv-nnunet"
DATASET = "Dataset004_Hippocampus"
TRAINED = f"{DATASET}/nnUNetTrainer__nnUNetPlans__3d_fullres"
VARIANTS = ("as_trained", "finer", "thick", "torch_resampled", "regions")
NETWORKS = ("plain", "nonlin_first", "residual", "batch_norm")
TRAIN, TEST = 6, 1


@pytest.fixture(scope="module")
def work(data, tmp_path_factory):
    """The folder in which nnU-Net has planned, trained and predicted."""
    if not (VENV / "complete").is_file():
        pytest.skip("nnU-Net is not here (install it with scripts/nnunet-venv.sh)")
    source = data("hippocampus")
    root = tmp_path_factory.mktemp("nnunet")
    raw = root / "raw" / DATASET
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (raw / name).mkdir(parents=True)
    images = sorted((source / "imagesTr").glob("*.nii.gz"))[: TRAIN + TEST]
    for image in images[:TRAIN]:
        name = image.name.removesuffix(".nii.gz")
        shutil.copy(image, raw / "imagesTr" / f"{name}_0000.nii.gz")
        shutil.copy(source / "labelsTr" / image.name, raw / "labelsTr" / image.name)
    for image in images[TRAIN:]:
        shutil.copy(image, raw / "imagesTs" / image.name.replace(".nii.gz", "_0000.nii.gz"))
    _odd(images[-1], raw / "imagesTs" / "odd_0000.nii.gz")
    dataset = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "Anterior": 1, "Posterior": 2},
        "numTraining": TRAIN,
        "file_ending": ".nii.gz",
        "licence": "CC-BY-SA 4.0",
    }
    (raw / "dataset.json").write_text(json.dumps(dataset))
    run = subprocess.run(
        [VENV / "bin" / "python", PROBE, root], capture_output=True, text=True, timeout=1200, check=False, cwd=root
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    return root


def _odd(source: Path, path: Path) -> None:
    """The scan with zeros around it, other spacings, and its axes stored in another order and direction."""
    image = nib.load(source)
    array = np.pad(np.asarray(image.dataobj).astype(np.float32), [(3, 0), (0, 4), (2, 2)])
    moved = np.flip(array.transpose(1, 2, 0), 1)
    affine = np.zeros((4, 4))
    affine[:, 3] = [5, -8, 30, 1]
    affine[1, 0], affine[2, 1], affine[0, 2] = 0.9, -1.2, 1.05
    nib.save(nib.Nifti1Image(np.ascontiguousarray(moved), affine), path)


@pytest.fixture(scope="module")
def imported(work, tmp_path_factory):
    """Variant -> the imported bundle's folder."""
    root = tmp_path_factory.mktemp("bundles")
    out = {}
    for name in VARIANTS:
        folder = work / "results" / (TRAINED if name == "as_trained" else name)
        found = import_nnunet(folder, root / f"{name}_segmentation")
        assert (found.configuration, found.trainer, found.folds) == ("3d_fullres", "nnUNetTrainer", ("0", "1"))
        out[name] = found.bundle
    return out


def agreement(work: Path, bundle: Path, predicted: str, method: str | None = None) -> tuple[float, float, int]:
    """(share of equal voxels, Dice of the foregrounds, foreground voxels) over all scans."""
    loaded = load_bundle(bundle)
    same = voxels = both = ours_inside = theirs_inside = 0
    for path in sorted((work / "raw" / DATASET / "imagesTs").glob("*.nii.gz")):
        case = path.name.removesuffix("_0000.nii.gz")
        volume = medseg.read(path)
        ours = segment(volume, loaded, method=None if method is None else parse_method(method)).labels.array
        theirs = np.asarray(nib.load(work / "predicted" / predicted / f"{case}.nii.gz").dataobj)
        same += int((ours == theirs).sum())
        voxels += theirs.size
        both += int(((ours > 0) & (ours == theirs)).sum())
        ours_inside += int((ours > 0).sum())
        theirs_inside += int((theirs > 0).sum())
    return same / voxels, 2 * both / max(ours_inside + theirs_inside, 1), theirs_inside


@pytest.mark.parametrize("name", VARIANTS)
def test_it_agrees_with_nnunets_own_prediction(work, imported, name):
    voxels, dice, inside = agreement(work, imported[name], name)
    LOG.info("%s: %.4f %% of voxels, Dice %.4f, foreground %d voxels", name, 100 * voxels, dice, inside)
    assert inside > 1000, "nnU-Net found nothing, so nothing was compared"
    # Between the two regions 50 steps leave margins hardly wider than nnU-Net's half-precision sums are coarse.
    assert voxels >= (0.998 if name == "regions" else 0.999)
    assert dice >= 0.99


def test_the_folds_are_an_ensemble_at_once(work, imported):
    """The mean of probabilities here, of logits there: near, and not the same."""
    voxels, dice, inside = agreement(work, imported["as_trained"], "as_trained-all", "ensemble")
    LOG.info("ensemble: %.4f %% of voxels, Dice %.4f, foreground %d voxels", 100 * voxels, dice, inside)
    assert inside > 1000
    assert voxels >= 0.995


@pytest.mark.parametrize("name", VARIANTS)
def test_the_bundle_keeps_its_promises(imported, name):
    problems = check_bundle(imported[name])
    assert [str(p) for p in problems if not p.warning] == []
    assert {p.code for p in problems} <= {"MS-B304"}  # no domain is known without the training cases


def test_a_prediction_says_where_folds_and_mirror_images_disagree(work, imported):
    scan = work / "raw" / DATASET / "imagesTs" / "odd_0000.nii.gz"
    result = medseg.predict(scan, imported["as_trained"], uncertainty="ensemble+tta")
    entropy = result.uncertainty["entropy"]
    assert entropy.grid.shape == nib.load(scan).shape
    assert 0 < entropy.array.max() <= 1
    assert result.segmentation.labels.by_value[1].name == "Anterior"


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_give_nnunets_logits(work, name):
    found = torch.load(work / "networks" / f"{name}.pt", weights_only=True)
    state = without_duplicates(found["state"])
    defined = network_def(json.loads(found["configuration"]), 2, 3, list(state), work)
    del defined["_target_"]
    network = NnunetUNet(**defined).eval()
    network.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(network(found["image"]), found["outputs"][0], rtol=1e-5, atol=1e-5)
        if name != "batch_norm":  # in training mode it would count statistics anew
            for ours, theirs in zip(network.train()(found["image"]), found["outputs"], strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
