"""train.json of an imported model runs: one step, from the imported weights."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import torch

from medseg.bundle.config import read_config
from medseg.bundle.load import build, open_config
from medseg.bundle.nnunet import import_nnunet


def test_one_patch_and_one_loss(trained, tmp_path):
    bundle = import_nnunet(trained(), tmp_path / "b_segmentation").bundle
    rng = np.random.default_rng(0)
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for n in range(3):
        label = np.zeros((24, 30, 12), np.uint8)
        label[8:14, 8:20, 3:9], label[14:18, 8:20, 3:9] = 1, 2
        image = rng.normal(size=label.shape).astype(np.float32) + label
        affine = np.diag([1.1, 1.0, 2.0, 1.0])
        nib.save(nib.Nifti1Image(image, affine), tmp_path / "data" / "imagesTr" / f"c{n}_0000.nii.gz")
        nib.save(nib.Nifti1Image(label, affine), tmp_path / "data" / "labelsTr" / f"c{n}.nii.gz")
    parser = open_config(
        bundle, read_config(bundle, "train"), {}, overrides={"dataset_dir": str(tmp_path / "data"), "num_workers": 0}
    )
    batch = next(iter(build(parser, ("train#dataloader",), bundle)))
    assert batch["image"].shape == (2, 1, 8, 16, 16)
    assert set(torch.unique(batch["label"]).tolist()) <= {0, 1, 2}
    network = build(parser, ("network_def",), bundle).train()
    loss = build(parser, ("loss",), bundle)(network(batch["image"]), batch["label"])
    loss.backward()
    assert torch.isfinite(loss)


def test_patches_are_cut_around_every_label_and_mirrored_as_nnunet_did(trained, tmp_path):
    bundle = import_nnunet(trained(), tmp_path / "b_segmentation").bundle
    config = json.loads((bundle / "configs" / "train.json").read_text())
    steps = config["train"]["random_transforms"]
    cut = next(step for step in steps if step["_target_"] == "RandCropByLabelClassesd")
    assert cut["ratios"] == [1.0, 1.0, 1.0]
    assert cut["spatial_size"] == [10, 20, 20]
    assert [step["spatial_axis"] for step in steps if step["_target_"] == "RandFlipd"] == [0, 1, 2]
    assert config["patch_size"] == [8, 16, 16]
