"""Small bundles with random weights, written as a user would: medseg's own kind and the model zoo's kind."""

from __future__ import annotations

import json
import shutil
from copy import deepcopy
from typing import TYPE_CHECKING

import torch
from monai.networks.nets import UNet
from safetensors.torch import save_file

if TYPE_CHECKING:
    from pathlib import Path

NETWORK = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 3,
    "channels": [4, 8],
    "strides": [2],
    "norm": "instance",
    "dropout": 0.1,
}

METADATA = {
    "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json",
    "version": "0.1.0",
    "changelog": {"0.1.0": "first"},
    "monai_version": "1.6.1",
    "pytorch_version": "2.10.0",
    "numpy_version": "1.26.0",
    "required_packages_version": {"medseg": "0.1.0", "nibabel": "5.3.0"},
    "name": "Blobs",
    "task": "two blobs",
    "description": "random weights, for tests",
    "authors": "nobody",
    "copyright": "nobody",
    "intended_use": "tests",
    "network_data_format": {
        "inputs": {
            "image": {
                "type": "image", "format": "magnitude", "modality": "MR", "num_channels": 1,
                "spatial_shape": ["16*n", "16*n", "16*n"], "dtype": "float32", "value_range": [],
                "is_patch_data": True, "channel_def": {"0": "T1w"},
            }
        },
        "outputs": {
            "pred": {
                "type": "image", "format": "segmentation", "num_channels": 3,
                "spatial_shape": ["16*n", "16*n", "16*n"], "dtype": "float32", "value_range": [],
                "is_patch_data": True, "channel_def": {"0": "background", "1": "front", "2": "back"},
            }
        },
    },
}  # fmt: skip

INSTANCE_NETWORK = {
    "_target_": "medseg.networks.MaskRCNN",
    "in_channels": 1,
    "classes": 2,
    "anchors": [[[4.0, 4.0, 4.0]], [[8.0, 8.0, 8.0]]],
    "features": [4, 8, 8],
    "channels": 8,
    "fine_channels": 8,
    "width": 8,
    "mask_width": 8,
    "mask_size": 4,
    "min_score": 0.3,
    "proposals": 30,
}

CARD = """# Blobs

Random weights, for tests and research only. Licence: Apache-2.0. Limits: it finds nothing.
"""

LABELS = [{"value": 1, "name": "front", "colour": [255, 0, 0]}, {"value": 2, "name": "back", "colour": [0, 255, 0]}]


def loading(keys, *, ours):
    """LoadImaged and EnsureChannelFirstd: two steps, because MONAI Deploy takes the first one out."""
    reader = "medseg.transforms.VolumeReader" if ours else "NibabelReader"
    return [
        {"_target_": "LoadImaged", "keys": keys, "reader": reader, "image_only": True},
        {"_target_": "EnsureChannelFirstd", "keys": keys},
    ]


def transforms(keys, *, ours):
    """Deterministic preprocessing: medseg's grid, or the zoo's Orientationd."""
    several = isinstance(keys, list)
    grid = {"_target_": "medseg.transforms.ToNetworkGridd", "keys": keys, "spacing_mm": [1.0, 1.0, 1.0]}
    turn = {"_target_": "Orientationd", "keys": keys, "axcodes": "RAS", "labels": None}
    if several:
        grid["label_keys"] = "label"
    return [grid if ours else turn, {"_target_": "ScaleIntensityd", "keys": "image"}]


def compose(steps):
    return {"_target_": "Compose", "transforms": steps}


def inference(*, ours: bool = False) -> dict:
    """inference.json as the model zoo writes it, with channels and labels; `ours` with medseg's own components."""
    back = [
        {"_target_": "Activationsd", "keys": "pred", "softmax": True},
        {
            "_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image",
            "nearest_interp": False, "to_tensor": True,
        },
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
    ]  # fmt: skip
    inferer = {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "overlap": 0.25, "mode": "gaussian"}
    if ours:
        back = [
            {"_target_": "medseg.transforms.RestoreGridd", "keys": "pred", "ref": "image"},
            {"_target_": "medseg.transforms.CleanComponentsd", "keys": "pred", "largest": [1]},
        ]
        inferer |= {"_target_": "medseg.inferers.SlidingWindowInferer", "output": "labels"}
    return {
        "imports": ["$import glob", "$import os"],
        "bundle_root": ".",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "dataset_dir": "$@bundle_root + '/data'",
        "output_dir": "$@bundle_root + '/eval'",
        "datalist": "$[{'image': path} for path in sorted(glob.glob(os.path.join(@dataset_dir, '*.nii.gz')))]",
        "channels": ["T1w"],
        "labels": deepcopy(LABELS),
        "network_def": deepcopy(NETWORK),
        "network": "$@network_def.to(@device)",
        "preprocessing": compose([*loading("image", ours=ours), *transforms("image", ours=ours)]),
        "dataset": {"_target_": "Dataset", "data": "@datalist", "transform": "@preprocessing"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": inferer,
        "postprocessing": compose(
            [
                *back,
                {
                    "_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir", "output_postfix": "seg",
                    "output_dtype": "uint8", "resample": False, "print_log": False,
                },
            ]
        ),
        "handlers": [{"_target_": "StatsHandler", "iteration_log": False}],
        "checkpointloader": {
            "_target_": "CheckpointLoader",
            "load_path": "$@bundle_root + '/models/model.pt'",
            "load_dict": {"model": "@network"},
        },
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
        },
        "initialize": [
            "$monai.utils.set_determinism(seed=123)",
            "$setattr(torch.backends.cudnn, 'benchmark', True)",
            "$@checkpointloader(@evaluator)",
        ],
        "run": ["$@evaluator.run()"],
    }  # fmt: skip


def train(*, ours: bool = False) -> dict:
    keys = ["image", "label"]
    data = "$[{'image': i, 'label': i.replace('imagesTr', 'labelsTr')} for i in @images]"
    metric = {
        "_target_": "MeanDice",
        "include_background": False,
        "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
    }
    return {
        "imports": ["$import glob"],
        "bundle_root": ".",
        "device": "$torch.device('cpu')",
        "dataset_dir": "$@bundle_root + '/data'",
        "images": "$sorted(glob.glob(@dataset_dir + '/imagesTr/*.nii.gz'))",
        "output_dir": "$@bundle_root + '/models'",
        "epochs": 1,
        "val_interval": 1,
        "channels": ["T1w"],
        "labels": deepcopy(LABELS),
        "network_def": deepcopy(NETWORK),
        "network": "$@network_def.to(@device)",
        "loss": {"_target_": "DiceCELoss", "to_onehot_y": True, "softmax": True},
        "optimizer": {"_target_": "torch.optim.Adam", "params": "$@network.parameters()", "lr": 0.001},
        "train": {
            "deterministic_transforms": [*loading(keys, ours=ours), *transforms(keys, ours=ours)],
            "random_transforms": [
                {"_target_": "RandFlipd", "keys": keys, "prob": 0.5, "spatial_axis": 0},
                {"_target_": "RandSpatialCropd", "keys": keys, "roi_size": [16, 16, 16], "random_size": False},
            ],
            "preprocessing": compose("$@train#deterministic_transforms + @train#random_transforms"),
            "dataset": {"_target_": "Dataset", "data": data, "transform": "@train#preprocessing"},
            "dataloader": {"_target_": "DataLoader", "dataset": "@train#dataset", "batch_size": 1, "num_workers": 0},
            "inferer": {"_target_": "SimpleInferer"},
            "handlers": [{"_target_": "StatsHandler", "iteration_log": False}],
            "trainer": {
                "_target_": "SupervisedTrainer",
                "max_epochs": "@epochs",
                "device": "@device",
                "train_data_loader": "@train#dataloader",
                "network": "@network",
                "loss_function": "@loss",
                "optimizer": "@optimizer",
                "inferer": "@train#inferer",
                "train_handlers": "@train#handlers",
            },
        },
        "validate": {
            "preprocessing": compose("%train#deterministic_transforms"),
            "dataset": {"_target_": "Dataset", "data": "%train#dataset#data", "transform": "@validate#preprocessing"},
            "dataloader": {"_target_": "DataLoader", "dataset": "@validate#dataset", "batch_size": 1},
            "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "overlap": 0.25},
            "postprocessing": compose(
                [{"_target_": "AsDiscreted", "keys": ["pred", "label"], "argmax": [True, False], "to_onehot": 3}]
            ),
            "handlers": [{"_target_": "StatsHandler", "iteration_log": False}],
            "key_metric": {"val_mean_dice": metric},
            "evaluator": {
                "_target_": "SupervisedEvaluator",
                "device": "@device",
                "val_data_loader": "@validate#dataloader",
                "network": "@network",
                "inferer": "@validate#inferer",
                "postprocessing": "@validate#postprocessing",
                "key_val_metric": "@validate#key_metric",
                "val_handlers": "@validate#handlers",
            },
        },
        "initialize": ["$monai.utils.set_determinism(seed=0)"],
        "run": ["$@train#trainer.run()"],
    }


def write_json(path: Path, data) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1), encoding="utf-8")


def write_weights(root: Path, *, half: bool = True, seed: int = 0) -> dict:
    torch.manual_seed(seed)
    arguments = {k: v for k, v in NETWORK.items() if k != "_target_"}
    state = UNet(**arguments).state_dict()
    state = {k: v.half() if half else v for k, v in state.items()}
    (root / "models").mkdir(parents=True, exist_ok=True)
    torch.save(state, root / "models" / "model.pt")
    save_file(state, root / "models" / "model.safetensors")
    return state


def write_instance_bundle(root: Path, *, weights: bool = True) -> Path:
    """A whole bundle under `root` that finds instances: a small Mask R-CNN with random weights."""
    from medseg.networks import MaskRCNN

    write_bundle(root, weights=False, ours=True)
    for name in ("inference", "train"):
        path = root / "configs" / f"{name}.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config["network_def"] = deepcopy(INSTANCE_NETWORK)
        if name == "inference":
            inferer = {"_target_": "medseg.inferers.InstanceInferer", "roi_size": [32, 32, 32], "overlap": 12}
            config["inferer"] = {**inferer, "min_score": 0.3}
            steps = config["postprocessing"]["transforms"]
            config["postprocessing"]["transforms"] = [steps[0], {**steps[-1], "output_dtype": "$torch.int32"}]
            config["imports"] += ["$import torch"]
        write_json(path, config)
    metadata = deepcopy(METADATA)
    pred = metadata["network_data_format"]["outputs"]["pred"]
    pred |= {"format": "instances", "num_channels": 1, "dtype": "int32", "channel_def": {"0": "instance number"}}
    write_json(root / "configs" / "metadata.json", metadata)
    if weights:
        torch.manual_seed(0)
        network = MaskRCNN(**{k: v for k, v in INSTANCE_NETWORK.items() if k != "_target_"})
        state = {k: v.half() for k, v in network.state_dict().items()}
        (root / "models").mkdir(parents=True, exist_ok=True)
        torch.save(state, root / "models" / "model.pt")
        save_file(state, root / "models" / "model.safetensors")
    return root


SMALL_NETWORK = {
    "features": [4, 8, 8, 8],
    "channels": 8,
    "fine_channels": 8,
    "width": 8,
    "mask_width": 8,
    "mask_size": 4,
    "proposals": 30,
    "per_image": 8,
}


def write_small_recipe(source: Path, root: Path, *, min_score: float, seed: int = 0) -> Path:
    """A shipped recipe for instances under `root`, as it is but for a small network with random weights.

    Args:
        source: its folder.
        root: where to.
        min_score: of network and inferer: what has learned nothing says something of everything.
        seed: of the weights.
    """
    from medseg.networks import MaskRCNN

    shutil.copytree(source, root, ignore=shutil.ignore_patterns("models", "__pycache__"))
    small = {}
    for name in ("inference", "train"):
        path = root / "configs" / f"{name}.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config["network_def"] |= SMALL_NETWORK | {"min_score": min_score}
        small = {k: v for k, v in config["network_def"].items() if k != "_target_"}
        if name == "inference":
            config["inferer"]["min_score"] = min_score
        else:
            # At 16^3 the deepest level is 2^3, where bfloat16 weight gradients of convolutions on a CPU are garbage
            # (PyTorch 2.13, channels last).
            config |= {"patch_size": [24, 24, 24], "batch_size": 2, "val_interval": 1, "epochs": 1, "validation": []}
        write_json(path, config)
    torch.manual_seed(seed)
    state = {k: v.half() for k, v in MaskRCNN(**small).state_dict().items()}
    (root / "models").mkdir()
    torch.save(state, root / "models" / "model.pt")
    save_file(state, root / "models" / "model.safetensors")
    return root


def write_bundle(root: Path, *, weights: bool = True, ours: bool = False) -> Path:
    """A whole bundle under `root`."""
    write_json(root / "configs" / "metadata.json", METADATA)
    write_json(root / "configs" / "inference.json", inference(ours=ours))
    write_json(root / "configs" / "train.json", train(ours=ours))
    (root / "LICENSE").write_text("Apache License 2.0\n", encoding="utf-8")
    (root / "docs").mkdir()
    (root / "docs" / "README.md").write_text(CARD, encoding="utf-8")
    (root / "docs" / "data_license.txt").write_text("No data.\n", encoding="utf-8")
    if weights:
        write_weights(root)
    return root
