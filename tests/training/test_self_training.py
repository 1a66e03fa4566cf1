"""Cases that nobody labelled teach as far as a model was certain of them."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data.meta_tensor import MetaTensor
from monai.losses import DeepSupervisionLoss, DiceCELoss

from medseg.errors import InputError
from medseg.losses import CompoundLoss, CrossEntropyLoss, FocalTverskyLoss
from medseg.training.region_loss import RegionLoss
from medseg.training.self_training import (
    CertaintyLoss,
    NoDoubtd,
    WithPseudoLabels,
    pseudo_labels,
    with_pseudo_labels,
)
from medseg.writers.atomic import sha256

if TYPE_CHECKING:
    from pathlib import Path

NAMES = {1: "dim", 2: "bright"}
HARD = DiceCELoss(to_onehot_y=True, softmax=True)


def write_case(out: Path, name: str, *, flat: bool = False, copied: bool = True, **more) -> Path:
    """A case as `medseg predict --uncertainty` leaves it, with the files that are looked at."""
    folder = out / "details" / name if flat else out / name
    folder.mkdir(parents=True)
    label = out / f"{name}.nii.gz" if flat else folder / "segmentation.nii.gz"
    grid = np.zeros((4, 4, 4), np.uint8)
    nib.save(nib.Nifti1Image(grid, np.eye(4)), label)
    nib.save(nib.Nifti1Image(grid.astype(np.float32), np.eye(4)), folder / "uncertainty_entropy.nii.gz")
    if copied:
        nib.save(nib.Nifti1Image(grid.astype(np.float32), np.eye(4)), folder / "image.nii.gz")
    record = {
        "status": "done",
        "input": {"paths": [str(out / "gone" / f"{name}.nii.gz")]},
        "outputs": {"segmentation.nii.gz": sha256(label)},
        "measurements": [{"structure": text, "value": value} for value, text in NAMES.items()],
        "outside_domain": [],
    } | more
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def test_the_cases_of_a_prediction(tmp_path):
    a, b = write_case(tmp_path, "a"), write_case(tmp_path, "b", flat=True)
    write_case(tmp_path, "odd", outside_domain=[{"code": "MS-X101"}])
    scan = tmp_path / "scans" / "c.nii.gz"
    scan.parent.mkdir()
    shutil.copy(a / "image.nii.gz", scan)
    c = write_case(tmp_path, "c", copied=False, input={"paths": [str(scan)]})
    d = write_case(tmp_path, "d", input={"paths": [str(scan), str(scan)]})
    write_case(tmp_path, "e", status="failed")
    wanted = {
        a: (str(a / "image.nii.gz"), a / "segmentation.nii.gz"),
        c: (str(scan), c / "segmentation.nii.gz"),
        d: ([str(scan)] * 2, d / "segmentation.nii.gz"),
        b: (str(b / "image.nii.gz"), tmp_path / "b.nii.gz"),
    }
    assert pseudo_labels(tmp_path, NAMES) == [
        {"image": image, "label": str(label), "doubt": str(folder / "uncertainty_entropy.nii.gz")}
        for folder, (image, label) in wanted.items()
    ]
    labelled = [{"image": "x.nii.gz", "label": "y.nii.gz"}]
    assert WithPseudoLabels(labelled, str(tmp_path)) == labelled + pseudo_labels(tmp_path)


def test_what_somebody_corrected_is_a_label_like_any(tmp_path):
    folder = write_case(tmp_path, "a")
    label = folder / "segmentation.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4)), label)
    assert pseudo_labels(tmp_path) == [{"image": str(folder / "image.nii.gz"), "label": str(label)}]


def test_a_folder_that_cannot_teach_is_refused(tmp_path):
    with pytest.raises(InputError, match="MS-T180"):
        pseudo_labels(tmp_path)
    folder = write_case(tmp_path, "odd", outside_domain=[{"code": "MS-X101"}])
    with pytest.raises(InputError, match=r"MS-T180[\s\S]*1 outside"):
        pseudo_labels(tmp_path)
    shutil.rmtree(folder)
    folder = write_case(tmp_path, "a")
    with pytest.raises(InputError, match=r"MS-T183[\s\S]*2 is bright[\s\S]*'dark'"):
        pseudo_labels(tmp_path, {1: "dim", 2: "dark"})
    (folder / "uncertainty_entropy.nii.gz").unlink()
    with pytest.raises(InputError, match=r"MS-T181[\s\S]*--uncertainty"):
        pseudo_labels(tmp_path)
    (folder / "image.nii.gz").unlink()
    with pytest.raises(InputError, match=r"MS-T182[\s\S]*gone"):
        pseudo_labels(tmp_path)


def test_labels_that_somebody_drew_have_no_doubt():
    label = MetaTensor(torch.ones(1, 2, 3, 4, dtype=torch.uint8), affine=torch.eye(4) * 2)
    made = NoDoubtd()({"label": label})
    assert made["doubt"].dtype == torch.float32
    assert not made["doubt"].any()
    assert torch.equal(made["doubt"].affine, label.affine)
    doubt = torch.rand(1, 2, 3, 4)
    assert NoDoubtd()({"label": label, "doubt": doubt})["doubt"] is doubt


def test_the_recipe_moves_doubt_with_the_labels(tmp_path):
    write_case(tmp_path, "a")
    both, image = ["image", "label"], ["image"]
    config = {
        "labels": [{"value": 1, "name": "dim"}, {"value": 2, "name": "bright"}],
        "train": {
            "deterministic_transforms": [
                {"_target_": "LoadImaged", "keys": both, "reader": "medseg.transforms.VolumeReader"},
                {"_target_": "EnsureChannelFirstd", "keys": both},
                {"_target_": "Spacingd", "keys": both, "pixdim": [1, 1], "mode": ["bilinear", "nearest"]},
                {"_target_": "ScaleIntensityd", "keys": "image"},
            ],
            "random_transforms": [
                {"_target_": "medseg.transforms.RandDeformd", "keys": both, "label_keys": "label", "scale": [0.8, 1.2]},
                {"_target_": "RandGaussianNoised", "keys": image},
            ],
            "dataset": {"data": ["labelled"]},
        },
    }
    before = json.dumps(config)
    found = with_pseudo_labels(config, tmp_path)
    load, channel, none, space, scale = found["train#deterministic_transforms"]
    deform, noise = found["train#random_transforms"]
    three = [*both, "doubt"]
    assert load["keys"] == channel["keys"] == space["keys"] == deform["keys"] == three
    assert load["allow_missing_keys"] is channel["allow_missing_keys"] is True
    assert "allow_missing_keys" not in space
    assert none == {"_target_": "medseg.training.NoDoubtd"}
    assert space["mode"] == ["bilinear", "nearest", "bilinear"]
    assert space["pixdim"] == [1, 1]
    assert deform["label_keys"] == "label"
    assert deform["scale"] == [0.8, 1.2]
    assert scale["keys"] == "image"
    assert noise["keys"] == image
    assert found["train#dataset#data"]["labelled"] == ["labelled"]
    assert json.dumps(config) == before


def pair(seed: int = 0, batch: int = 2, size: int = 4):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, 3, size, size, size, generator=generator)
    label = torch.randint(0, 3, (batch, 1, size, size, size), generator=generator).float()
    return logits, label, torch.rand(batch, 1, size, size, size, generator=generator)


def test_drawn_labels_have_the_recipes_loss():
    logits, label, doubt = pair()
    target = torch.cat([label, doubt * 0], 1)
    for loss in (HARD, CrossEntropyLoss(), DiceCELoss(to_onehot_y=True, softmax=True, batch=True)):
        assert CertaintyLoss(loss)(logits, target).item() == pytest.approx(loss(logits, label).item())


def test_each_voxel_counts_by_its_certainty():
    """Cross-entropy by hand: the mean of each voxel's, weighted by certainty."""
    logits, label, doubt = pair(batch=1)
    found = CertaintyLoss(CrossEntropyLoss(), weight=0.3)(logits, torch.cat([label, doubt], 1))
    each = torch.nn.functional.cross_entropy(logits, label[:, 0].long(), reduction="none")
    sure = 1 - doubt[:, 0]
    assert found.item() == pytest.approx(((each * sure).sum() / sure.sum()).item(), rel=1e-5)


def test_what_is_wholly_in_doubt_does_not_count():
    """Voxels of certainty 0 may say what they like: no loss, no gradient."""
    logits, label, doubt = pair(batch=1)
    doubt = (doubt > 0.5).float()
    logits.requires_grad_()
    other = torch.where(doubt > 0, 2 - label, label)
    loss = CertaintyLoss(CompoundLoss([FocalTverskyLoss(), CrossEntropyLoss()]))
    one = loss(logits, torch.cat([label, doubt], 1))
    assert loss(logits, torch.cat([other, doubt], 1)).item() == pytest.approx(one.item(), rel=1e-6)
    one.backward()
    assert (logits.grad * doubt).abs().max() == 0
    assert (logits.grad * (1 - doubt)).abs().max() > 0


def test_a_batch_of_both_is_the_mean_by_weight():
    logits, label, doubt = pair()
    doubt[0] = 0
    loss = CertaintyLoss(HARD, weight=0.5)
    found = loss(logits, torch.cat([label, doubt], 1))
    alone = loss(logits[1:], torch.cat([label, doubt], 1)[1:])
    inside = label[1:] > 0
    share = 0.5 * (1 - doubt[1:])[inside].mean()
    wanted = (HARD(logits[:1], label[:1]) + share * alone) / (1 + share)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert CertaintyLoss(HARD, weight=0)(logits, torch.cat([label, doubt], 1)).item() == pytest.approx(
        HARD(logits[:1], label[:1]).item()
    )


def test_regions_and_deep_supervision():
    logits, label, doubt = pair()
    target = torch.cat([label, doubt], 1)
    inner = CompoundLoss([FocalTverskyLoss(0.5, 0.5, 1.0, sigmoid=True), CrossEntropyLoss(sigmoid=True)])
    regions = RegionLoss(inner, [[1, 2], [2]])
    found = CertaintyLoss(regions)(logits[:, :2], target)
    assert found.isfinite()
    none = torch.cat([label, doubt * 0], 1)
    assert CertaintyLoss(regions)(logits[:, :2], none).item() == pytest.approx(regions(logits[:, :2], label).item())
    levels = [logits.requires_grad_(), pair(1, size=2)[0].requires_grad_()]
    DeepSupervisionLoss(CertaintyLoss(HARD))(levels, target).backward()
    assert all(level.grad.abs().sum() > 0 for level in levels)


def test_a_case_without_structures_and_one_without_certainty():
    logits, label, _ = pair(batch=1)
    loss = CertaintyLoss(HARD)
    empty = loss(logits, torch.cat([label * 0, torch.full_like(label, 0.5)], 1))
    assert empty.isfinite()
    lost = loss(logits.requires_grad_(), torch.cat([label, torch.ones_like(label)], 1))
    lost.backward()
    assert lost.isfinite()
    assert logits.grad.abs().max() == 0
    with pytest.raises(ValueError, match="at least 0"):
        CertaintyLoss(HARD, weight=-1)


@given(st.integers(0, 1000), st.floats(0.01, 0.99))
def test_the_same_doubt_everywhere_is_the_loss_itself(seed, doubt):
    logits, label, _ = pair(seed, batch=1)
    target = torch.cat([label, torch.full_like(label, doubt)], 1)
    loss = CrossEntropyLoss()
    assert CertaintyLoss(loss)(logits, target).item() == pytest.approx(loss(logits, label).item(), rel=1e-4)


def test_shares_of_annotators_weigh_a_case_as_its_label_map_does():
    torch.manual_seed(0)
    label = torch.randint(0, 3, (2, 1, 4, 4, 4)).float()
    logits, doubt = torch.randn(2, 3, 4, 4, 4), torch.rand(2, 1, 4, 4, 4)
    shares = torch.nn.functional.one_hot(label[:, 0].long(), 3).movedim(-1, 1).float()
    loss = CertaintyLoss(CompoundLoss([FocalTverskyLoss(), CrossEntropyLoss()]))
    found = loss(logits, torch.cat([shares, doubt], 1))
    assert found.item() == pytest.approx(loss(logits, torch.cat([label, doubt], 1)).item())
