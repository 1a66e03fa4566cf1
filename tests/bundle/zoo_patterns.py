"""Inference configs in the patterns of MONAI's model zoo: what its bundles without code of their own ask of a parser.

Each is written here, small enough to be built in a second; the ways of saying things are the zoo's: references into
tables, conditions, comprehensions over globbed files, lambdas in transforms, text from other files of the bundle, weights
of a searched architecture, handlers and evaluators with `$` steps to begin and to run.
"""

from __future__ import annotations

import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
import yaml

from tests.bundle.build import METADATA

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEVICE = "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')"
ROI = [32, 32, 32]


def step(name: str, keys: Any = "image", **given: Any) -> dict[str, Any]:
    return {"_target_": name, "keys": keys, **given}


def compose(*steps: Any) -> dict[str, Any]:
    return {"_target_": "Compose", "transforms": list(steps)}


def back(*steps: Any, **invert: Any) -> dict[str, Any]:
    """The zoo's postprocessing: probabilities, back onto the scan's grid, labels, a file."""
    inverted = {
        "transform": "@preprocessing",
        "orig_keys": "image",
        "nearest_interp": False,
        "to_tensor": True,
        **invert,
    }
    return compose(
        step("Activationsd", "pred", softmax=True),
        step("Invertd", "pred", **inverted),
        step("AsDiscreted", "pred", argmax=True),
        *steps,
        step("SaveImaged", "pred", output_dir="@output_dir"),
    )


def frame(network: dict[str, Any], preprocessing: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What nearly every inference.json of the zoo has."""
    config = {
        "imports": ["$import glob", "$import os"],
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/eval'",
        "dataset_dir": "$@bundle_root + '/data'",
        "datalist": "$list(sorted(glob.glob(@dataset_dir + '/imagesTs/*.nii.gz')))",
        "device": DEVICE,
        "network_def": network,
        "network": "$@network_def.to(@device)",
        "preprocessing": preprocessing,
        "dataset": {"_target_": "Dataset", "data": "$[{'image': i} for i in @datalist]", "transform": "@preprocessing"},
        "dataloader": {
            "_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "shuffle": False, "num_workers": 0,
        },
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": ROI, "sw_batch_size": 4, "overlap": 0.5},
        "postprocessing": back(),
        "handlers": [
            {
                "_target_": "CheckpointLoader",
                "load_path": "$@bundle_root + '/models/model.pt'",
                "load_dict": {"model": "@network"},
            },
            {"_target_": "StatsHandler", "iteration_log": False},
        ],
        "evaluator": {
            "_target_": "SupervisedEvaluator", "device": "@device", "val_data_loader": "@dataloader",
            "network": "@network", "inferer": "@inferer", "postprocessing": "@postprocessing",
            "val_handlers": "@handlers", "amp": False,
        },
        "initialize": ["$monai.utils.set_determinism(seed=123)"],
        "run": ["$@evaluator.run()"],
    }  # fmt: skip
    return config | more


def ct(*more: Any) -> dict[str, Any]:
    return compose(
        step("LoadImaged", reader="ITKReader"),
        step("EnsureChannelFirstd"),
        step("Orientationd", axcodes="RAS", labels=None),
        step("Spacingd", pixdim=[1.5, 1.5, 2.0], mode="bilinear"),
        step("ScaleIntensityRanged", a_min=-57, a_max=164, b_min=0.0, b_max=1.0, clip=True),
        *more,
        step("EnsureTyped"),
    )


def unet(**given: Any) -> dict[str, Any]:
    size = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]}
    return {"_target_": "UNet", **size, "num_res_units": 1, "norm": "batch", **given}


def spleen_unet(_root: Path) -> dict[str, Any]:
    config = frame(unet(), ct())
    del config["initialize"], config["run"]
    return config | {"evaluating": ["$setattr(torch.backends.cudnn, 'benchmark', True)", "$@evaluator.run()"]}


def brats_segresnet(root: Path) -> dict[str, Any]:
    (root / "configs" / "datalist.json").write_text(json.dumps({"testing": []}), encoding="utf-8")
    network = {
        "_target_": "SegResNet", "blocks_down": [1, 1], "blocks_up": [1], "init_filters": 8, "in_channels": 4,
        "out_channels": 3, "dropout_prob": 0.2,
    }  # fmt: skip
    regions = "$lambda x: torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, torch.where(x[[1]] > 0, 2, 0)))"
    post = compose(
        step("Activationsd", "pred", sigmoid=True),
        step("AsDiscreted", "pred", threshold=0.5),
        step("Lambdad", "pred", func=regions),
        step(
            "SaveImaged", "pred", output_dir="@output_dir", output_dtype="uint8", resample=False, squeeze_end_dims=True
        ),
    )
    normal = step("NormalizeIntensityd", nonzero=True, channel_wise=True)
    listed = "$monai.data.load_decathlon_datalist(@data_list_file_path, data_list_key='testing', base_dir=@dataset_dir)"
    config = frame(network, compose(step("LoadImaged"), normal), postprocessing=post, test_datalist=listed)
    config["data_list_file_path"] = "$@bundle_root + '/configs/datalist.json'"
    config["dataset"]["data"] = "@test_datalist"
    return config


def btcv_swin_unetr(_root: Path) -> dict[str, Any]:
    network = {
        "_target_": "SwinUNETR", "spatial_dims": 3, "in_channels": 1, "out_channels": 14, "feature_size": 12,
        "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "use_checkpoint": False,
    }  # fmt: skip
    inferer = {"_target_": "SlidingWindowInferer", "roi_size": [64, 32, 32], "sw_batch_size": 4, "overlap": 0.5}
    return frame(network, ct(), inferer=inferer)


def deepgrow_dynunet(_root: Path) -> dict[str, Any]:
    network = {
        "_target_": "DynUNet", "spatial_dims": 3, "in_channels": "$len(@label_names) + @number_intensity_ch - 2",
        "out_channels": "$len(@label_names)", "kernel_size": [3, 3, [3, 3, 1]], "strides": [1, 2, [2, 2, 1]],
        "upsample_kernel_size": [2, [2, 2, 1]], "norm_name": "instance", "filters": [4, 8, 8], "deep_supervision": False,
        "res_block": True,
    }  # fmt: skip
    config = frame(network, {"_target_": "Compose", "transforms": "$@load_transforms + @scale_transforms"})
    config |= {
        "image_key": "image",
        "label_names": {"spleen": 1, "background": 0},
        "number_intensity_ch": 1,
        "load_transforms": [step("LoadImaged", "@image_key"), step("EnsureChannelFirstd", "@image_key")],
        "scale_transforms": [step("ScaleIntensityd", "@image_key"), step("EnsureTyped", "@image_key")],
    }
    config["dataset"]["data"] = "$[{@image_key: i} for i in @datalist]"
    return config


def whole_body(_root: Path) -> dict[str, Any]:
    network = {
        "_target_": "SegResNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 7, "init_filters": 8,
        "blocks_down": [1, 1], "blocks_up": [1],
    }  # fmt: skip
    config = frame(
        network,
        compose(
            step("LoadImaged", "@image_key"),
            step("EnsureTyped", "@image_key"),
            step("EnsureChannelFirstd", "@image_key"),
            step("Spacingd", "@image_key", pixdim="@pixdim", mode="bilinear"),
            step("NormalizeIntensityd", "@image_key", nonzero=True),
            step("ScaleIntensityd", "@image_key", minv=-1.0, maxv=1.0),
        ),
        imports=["$import glob", "$import numpy", "$import os"],
        displayable_configs={"highres": True, "sw_overlap": 0.25, "sw_batch_size": 1},
        image_key="image",
        output_dtype="$numpy.float32",
        pixdim="$[1.5, 1.5, 1.5] if @displayable_configs#highres else [3.0, 3.0, 3.0]",
        modelname="$'model.pt' if @displayable_configs#highres else 'model_lowres.pt'",
    )
    config["inferer"] |= {
        "sw_batch_size": "@displayable_configs#sw_batch_size", "overlap": "@displayable_configs#sw_overlap",
        "mode": "gaussian", "padding_mode": "replicate", "device": DEVICE,
    }  # fmt: skip
    load = config["handlers"].pop(0)
    load["load_path"] = "$@bundle_root + '/models/' + @modelname"
    begin = ["$setattr(torch.backends.cudnn, 'benchmark', True)", "$@checkpointloader(@evaluator)"]
    return config | {"checkpointloader": load, "initialize": begin}


def classification(network: dict[str, Any], dims: int) -> dict[str, Any]:
    config = frame(
        network,
        compose(
            step("LoadImaged"),
            step("EnsureChannelFirstd"),
            step("Resized", spatial_size=[32] * dims, mode="bilinear" if dims == 2 else "trilinear"),
            step("CastToTyped", dtype="$torch.float32"),
            step("NormalizeIntensityd", nonzero=True, channel_wise=True),
            step("EnsureTyped"),
        ),
        imports=["$import glob", "$import torch"],
        inferer={"_target_": "SimpleInferer"},
        postprocessing=compose(step("AsDiscreted", ["pred"], argmax=True, to_onehot=2)),
    )
    config["handlers"][1]["iteration_log"] = True
    return config


def densenet_classification(_root: Path) -> dict[str, Any]:
    return classification({"_target_": "DenseNet121", "spatial_dims": 3, "in_channels": 1, "out_channels": 2}, 3)


def senet_classification(_root: Path) -> dict[str, Any]:
    return classification({"_target_": "SEResNet50", "spatial_dims": 2, "in_channels": 3, "num_classes": 2}, 2)


def unetr(_root: Path) -> dict[str, Any]:
    network = {
        "_target_": "UNETR", "in_channels": 1, "out_channels": 5, "img_size": "@patch_size", "feature_size": 4,
        "hidden_size": 24, "mlp_dim": 32, "num_heads": 2, "norm_name": "instance", "res_block": True,
    }  # fmt: skip
    inferer = {"_target_": "SlidingWindowInfererAdapt", "roi_size": "@patch_size", "sw_batch_size": 1, "overlap": 0.25}
    return frame(network, ct(), patch_size="$(32, 32, 32)", inferer=inferer)


def vnet(_root: Path) -> dict[str, Any]:
    network = {
        "_target_": "VNet",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 2,
        "act": ["elu", {"inplace": True}],
    }
    crop = step("CropForegroundd", source_key="image", select_fn="$lambda x: x > 0", allow_smaller=True)
    return frame(
        network, ct(crop), postprocessing=back(step("KeepLargestConnectedComponentd", "pred", applied_labels=[1]))
    )


def attention_unet_from_files(root: Path) -> dict[str, Any]:
    shared = {"network_def": {"_target_": "AttentionUnet", "spatial_dims": 3, "in_channels": 1, "out_channels": 3,
                              "channels": [4, 8, 8], "strides": [2, 2]}, "windows": {"roi_size": ROI}}  # fmt: skip
    (root / "configs" / "shared.json").write_text(json.dumps(shared), encoding="utf-8")
    text = yaml.safe_dump({"steps": ct()["transforms"]})
    (root / "configs" / "transforms.yaml").write_text(text, encoding="utf-8")
    config = frame(
        "%configs/shared.json#network_def", {"_target_": "Compose", "transforms": "%configs/transforms.yaml#steps"}
    )
    config["inferer"]["roi_size"] = "%configs/shared.json::windows::roi_size"
    config["second_inferer"] = "%inferer"
    return config


def short_axis_slices(_root: Path) -> dict[str, Any]:
    steps = compose(
        step("LoadImaged", image_only=False),
        step("EnsureChannelFirstd"),
        step("ScaleIntensityd"),
        step("EnsureTyped", device="@device"),
    )
    inferer = {"_target_": "SliceInferer", "roi_size": [32, 32], "spatial_dim": 2}
    config = frame(
        unet(spatial_dims=2, out_channels=4), steps, inferer=inferer, ckpt_path="$@bundle_root + '/models/model.pt'"
    )
    config["handlers"] = [
        {"_target_": "CheckpointLoader", "load_path": "@ckpt_path", "load_dict": {"model": "@network"}}
    ]
    config["datalist"] = "$list(sorted(glob.glob(@dataset_dir + '/*.nii*')))"
    return config


def pancreas_dints(root: Path) -> dict[str, Any]:
    space = {"num_blocks": 2, "num_depths": 2}
    found = {
        "node_a": torch.ones(3, 2), "arch_code_a": torch.ones(2, 4), "arch_code_c": torch.zeros(2, 4),
    }  # fmt: skip
    torch.save(found, root / "models" / "search_code.pt")
    topology = {
        "_target_": "TopologyInstance", "channel_mul": 0.25, **space, "use_downsample": True, "device": "@device",
        "arch_code": ["$@arch_ckpt['arch_code_a'].cpu().numpy()", "$@arch_ckpt['arch_code_c'].cpu().numpy()"],
    }  # fmt: skip
    network = {
        "_target_": "monai.networks.nets.DiNTS", "dints_space": "@dints_space", "in_channels": "@input_channels",
        "num_classes": "@output_classes", "use_downsample": True, "node_a": "$@arch_ckpt['node_a'].cpu().numpy()",
    }  # fmt: skip
    return frame(
        network,
        ct(),
        input_channels=1,
        output_classes=3,
        arch_ckpt_path="$@bundle_root + '/models/search_code.pt'",
        arch_ckpt="$torch.load(@arch_ckpt_path, map_location=torch.device('cpu'))",
        dints_space=topology,
    )


def tool_flexible_unet(_root: Path) -> dict[str, Any]:
    network = {
        "_target_": "FlexibleUNet", "in_channels": 3, "out_channels": 2, "backbone": "efficientnet-b0",
        "spatial_dims": 2, "dropout": 0.5, "pretrained": False, "is_pad": False,
    }  # fmt: skip
    steps = compose(
        step("LoadImaged", reader="PILReader"),
        step("EnsureChannelFirstd", channel_dim=-1),
        step("Resized", spatial_size=[64, 64]),
        step("ScaleIntensityd"),
    )
    post = compose(
        step("AsDiscreted", "pred", argmax=True),
        step("Lambdad", "pred", func="$lambda x: x * 255"),
        step("SaveImaged", "pred", output_dir="@output_dir", output_ext=".png", writer="PILWriter"),
    )
    return frame(network, steps, postprocessing=post, inferer={"_target_": "SimpleInferer"})


def validated_basic_unet(_root: Path) -> dict[str, Any]:
    network = {
        "_target_": "monai.networks.nets.basic_unet.BasicUNet", "spatial_dims": 3, "in_channels": 2, "out_channels": 3,
        "features": [4, 4, 8, 8, 8, 4],
    }  # fmt: skip
    both = ["image", "label"]
    steps = compose(
        step("LoadImaged", both),
        step("EnsureChannelFirstd", both),
        step("NormalizeIntensityd", nonzero=True, channel_wise=True),
        step("EnsureTyped", both),
    )
    config = frame(network, steps, imports=["$import glob", "$import os", "$import monai"])
    config["images"] = "$sorted(glob.glob(os.path.join(@dataset_dir, 'imagesTr', '*.nii.gz')))"
    config["labels_found"] = "$[os.path.join(@dataset_dir, 'labelsTr', os.path.basename(i)) for i in @images]"
    config["dataset"]["data"] = "$[{'image': i, 'label': l} for i, l in zip(@images, @labels_found)]"
    mean = {
        "_target_": "MeanDice",
        "include_background": False,
        "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
    }
    config["evaluator"] |= {"key_val_metric": {"val_mean_dice": mean}}
    config["handlers"].append(
        {
            "_target_": "MetricsSaver", "save_dir": "@output_dir", "metrics": ["val_mean_dice"],
            "metric_details": ["val_mean_dice"], "batch_transform": "$monai.handlers.from_engine(['image_meta_dict'])",
            "summary_ops": "*",
        }
    )  # fmt: skip
    return config


def ensemble_of_two(_root: Path) -> dict[str, Any]:
    config = frame(unet(), ct(), network_b={"_target_": "UNet", **{k: v for k, v in unet().items() if k != "_target_"}})
    config["network1"] = "$@network_b.to(@device)"
    config["postprocessing"] = compose(
        step("Activationsd", ["pred0", "pred1"], softmax=True),
        step("MeanEnsembled", ["pred0", "pred1"], output_key="pred"),
        step("AsDiscreted", "pred", argmax=True),
    )
    config["handlers"] = config["handlers"][1:]
    config["evaluator"] |= {
        "_target_": "EnsembleEvaluator", "networks": ["@network", "@network1"], "pred_keys": ["pred0", "pred1"],
    }  # fmt: skip
    del config["evaluator"]["network"]
    return config


def prostate_with_ignite(_root: Path) -> dict[str, Any]:
    network = unet(channels=[4, 8, 8], strides=[2, 2], out_channels=3, act="PRELU", dropout=0.15)
    steps = compose(
        step("LoadImaged"),
        step("EnsureChannelFirstd"),
        step("Spacingd", pixdim=[0.5, 0.5, 0.5], mode=["bilinear"], scale_extent=True),
        step("CenterSpatialCropd", roi_size="$[n * 2 for n in @patch]"),
        step("ScaleIntensityRangePercentilesd", lower=1, upper=99, b_min="$float(0)", b_max="$float(1)", clip=True),
    )
    config = frame(network, steps, patch=[16, 16, 16], imports=["$import glob", "$import ignite", "$import logging"])
    config["handlers"].append({"_target_": "ignite.handlers.Timer"})
    config["handlers"][1] |= {"name": "evaluator", "output_transform": "$lambda x: None"}
    config["inferer"] |= {"roi_size": "$[n * 2 for n in @patch]", "sw_batch_size": "$max(1, os.cpu_count() // 64)"}
    config["imports"].append("$import os")
    config["epochs"] = "$ignite.engine.Events.EPOCH_COMPLETED"
    return config


def left_right_highresnet(_root: Path) -> dict[str, Any]:
    network = {"_target_": "HighResNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 5}
    network["layer_params"] = [
        {"name": "conv_0", "n_features": 4, "kernel_size": 3},
        {"name": "res_1", "n_features": 4, "kernels": [3, 3], "repeat": 1},
        {"name": "conv_1", "n_features": 4, "kernel_size": 1},
        {"name": "conv_2", "kernel_size": 1},
    ]
    post = back(
        step(
            "MapLabelValued",
            "pred",
            orig_labels="$list(range(5))",
            target_labels="$[0] + [n * 10 for n in range(1, 5)]",
        ),
        step("FillHolesd", "pred", applied_labels="@parts#left"),
    )
    return frame(network, ct(step("SelectItemsd")), postprocessing=post, parts={"left": [10, 20], "right": [30, 40]})


#: name -> (how it is written, image channels, channels or classes of the network's output, axes).
PATTERNS: dict[str, tuple[Callable[[Path], dict[str, Any]], int, int, int]] = {
    "spleen UNet": (spleen_unet, 1, 2, 3),
    "BraTS SegResNet": (brats_segresnet, 4, 3, 3),
    "BTCV SwinUNETR": (btcv_swin_unetr, 1, 14, 3),
    "interactive DynUNet": (deepgrow_dynunet, 1, 2, 3),
    "whole body SegResNet": (whole_body, 1, 7, 3),
    "DenseNet121 classification": (densenet_classification, 1, 2, 3),
    "SEResNet50 classification": (senet_classification, 3, 2, 2),
    "UNETR": (unetr, 1, 5, 3),
    "VNet": (vnet, 1, 2, 3),
    "AttentionUnet from other files": (attention_unet_from_files, 1, 3, 3),
    "UNet of slices": (short_axis_slices, 1, 4, 3),
    "DiNTS, searched": (pancreas_dints, 1, 3, 3),
    "FlexibleUNet": (tool_flexible_unet, 3, 2, 2),
    "BasicUNet, validated": (validated_basic_unet, 2, 3, 3),
    "ensemble": (ensemble_of_two, 1, 2, 3),
    "prostate UNet with ignite": (prostate_with_ignite, 1, 3, 3),
    "HighResNet": (left_right_highresnet, 1, 5, 3),
}


def write_pattern(root: Path, name: str, *, as_yaml: bool = False) -> Path:
    """A bundle folder with the pattern's inference config and metadata; no weights, no train.json."""
    make, channels, classes, _ = PATTERNS[name]
    for folder in ("configs", "models"):
        (root / folder).mkdir(parents=True)
    metadata = deepcopy(METADATA)
    tensors = metadata["network_data_format"]
    tensors["inputs"]["image"] |= {
        "num_channels": channels, "channel_def": {str(n): f"image {n}" for n in range(channels)},
    }  # fmt: skip
    tensors["outputs"]["pred"] |= {
        "num_channels": classes,
        "channel_def": {str(n): "background" if n == 0 else f"part {n}" for n in range(classes)},
    }
    config = make(root)
    (root / "configs" / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    if as_yaml:
        (root / "configs" / "inference.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    else:
        (root / "configs" / "inference.json").write_text(json.dumps(config), encoding="utf-8")
    return root
