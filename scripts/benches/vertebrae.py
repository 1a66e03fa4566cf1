"""Mask R-CNN beside U-Net + connected components: vertebral bodies, the same scans, augmentation and minutes.

Both are trained with `medseg train` on the 30 training volumes and scored with `medseg evaluate -c instances` on the 7
validation volumes. The U-Net is the hippocampus bundle's, with as wide an encoder and with the patches, steps and
augmentation of the vertebrae recipe; its foreground falls into connected components, of which those under 1 mL go and the
larger ones count as the surer ones. An hour each; MEDSEG_RUNS names a folder that keeps the runs, or has them.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import cc3d
import nibabel as nib
import numpy as np
from trained import ROOT, folders, medseg, pooled, read, row, train

MINUTES = 60
SMALLEST_ML = 1.0
SHOWN = {"ap@0.5iou": 0.85, "pq": 0.75, "map@0.1:0.5iou": None, "f1@0.5iou": None, "ap@0.1iou": None}


def rows(quick: bool = False) -> list[dict]:
    data = Path(os.environ.get("MEDSEG_DATA") or ROOT.parent / "shared" / "data", "vertebrae_mri", "iso2mm")
    if not data.is_dir():
        raise SystemExit(f"no vertebrae_mri/iso2mm at {data.parent}: set MEDSEG_DATA")
    recipe = ROOT / "bundles" / "vertebrae_mri_instance_segmentation"
    with folders() as (runs, work):
        write_unet_bundle(recipe, work / "unet_bundle")
        minutes = 1 if quick else MINUTES
        train(runs / "mask_rcnn", recipe, data, minutes)
        train(runs / "unet", work / "unet_bundle", data, minutes)
        return compared(runs, data, read(recipe / "configs" / "train.json")["validation"], work)


def compared(runs: Path, data: Path, validation: list[str], work: Path) -> list[dict]:
    """Predict, label, evaluate; a row for each figure."""
    (work / "images").mkdir()
    (work / "labels").mkdir()
    for case in validation:
        for kind in ("images", "labels"):
            shutil.copy(next((data / kind).glob(f"{case}[._]*")), work / kind)
    for name in ("mask_rcnn", "unet"):
        # the shape of a field of view says nothing of a network that was trained minutes ago
        medseg("predict", work / "images", "-b", runs / name, "-o", work / name, "--no-views", "--outside-domain")
    for file in (work / "unet").glob("*/segmentation.nii.gz"):
        write_components(file, work / "components")
    medseg(
        "evaluate", work / "mask_rcnn", work / "labels", "-o", work / "scores", "-c", "instances", "--compare",
        work / "components",
    )  # fmt: skip
    found = next(iter(pooled(work / "scores").values()))
    out = []
    for metric, goal in SHOWN.items():
        ours, theirs = found[metric]["value"], found[metric]["other"]
        out.append(row(metric, "U-Net + components", ours, theirs))
        if goal is not None:
            out.append(row(metric, "goal", ours, goal))
    return out


def write_components(segmentation: Path, out: Path) -> None:
    """A label map's pieces as an instance map with scores, named as its case."""
    image = nib.load(segmentation)
    ids = cc3d.connected_components(np.asarray(image.dataobj) > 0, connectivity=6).astype(np.uint16)
    ml = np.bincount(ids.ravel()) * abs(np.linalg.det(image.affine[:3, :3])) / 1000
    kept = [n for n in range(1, len(ml)) if ml[n] >= SMALLEST_ML]
    new = np.zeros(len(ml), np.uint16)
    new[kept] = np.arange(1, len(kept) + 1)
    ids, ml = new[ids], ml[[0, *kept]]
    out.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(ids, image.affine), out / f"{segmentation.parent.name}.nii.gz")
    scores = {str(n): float(ml[n] / ml[1:].max()) for n in range(1, len(kept) + 1)}
    table = {"instances": dict.fromkeys(scores, 0), "scores": scores}
    (out / f"{segmentation.parent.name}.json").write_text(json.dumps(table))


def write_unet_bundle(recipe: Path, out: Path) -> None:
    """The hippocampus bundle's U-Net for the vertebrae recipe's scans."""
    shutil.copytree(
        ROOT / "bundles" / "hippocampus_mri_segmentation", out, ignore=shutil.ignore_patterns("models", "docs")
    )
    (out / "models").mkdir()
    theirs = {name: read(recipe / "configs" / f"{name}.json") for name in ("train", "inference")}
    training, inference = (read(out / "configs" / f"{name}.json") for name in ("train", "inference"))
    network = training["network_def"] | {"out_channels": 2, "features": theirs["train"]["network_def"]["features"]}
    for config in (training, inference):
        config["labels"], config["network_def"] = theirs["train"]["labels"], network
    for key in ("validation", "patch_size", "batch_size"):
        training[key] = theirs["train"][key]
    steps = theirs["train"]["train"]
    binary = {"_target_": "AsDiscreted", "keys": "label", "threshold": 0.5}
    training["train"]["deterministic_transforms"] = [
        binary if "InstancesFromLabeld" in step["_target_"] else step for step in steps["deterministic_transforms"]
    ]
    training["train"]["random_transforms"] = steps["random_transforms"]
    training["validate"]["postprocessing"]["transforms"][0]["to_onehot"] = 2
    inference["preprocessing"] = theirs["inference"]["preprocessing"]
    inference["inferer"]["roi_size"] = training["patch_size"]
    for key in ("domain", "uncertainty"):
        inference.pop(key, None)
    metadata = read(out / "configs" / "metadata.json")
    metadata["network_data_format"] = read(recipe / "configs" / "metadata.json")["network_data_format"]
    metadata["network_data_format"]["outputs"]["pred"] |= {
        "format": "segmentation", "num_channels": 2, "channel_def": {"0": "background", "1": "vertebral body"},
    }  # fmt: skip
    for name, config in {"train": training, "inference": inference, "metadata": metadata}.items():
        (out / "configs" / f"{name}.json").write_text(json.dumps(config))
