"""What nnU-Net's trainer leaves behind, made without nnU-Net: plans, dataset and checkpoints of a small network."""

from __future__ import annotations

import numpy as np
import torch

from medseg.networks import NnunetUNet

FEATURES = [2, 3, 4]
ARCHITECTURE = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
        "n_stages": 3,
        "features_per_stage": FEATURES,
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "n_conv_per_stage": [2, 2, 2],
        "n_conv_per_stage_decoder": [2, 2],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}
CONFIGURATION = {
    "data_identifier": "nnUNetPlans_3d_fullres",
    "preprocessor_name": "DefaultPreprocessor",
    "batch_size": 2,
    "patch_size": [8, 16, 16],
    "median_image_size_in_voxels": [20.0, 30.0, 30.0],
    "spacing": [2.0, 1.0, 1.0],
    "normalization_schemes": ["ZScoreNormalization"],
    "use_mask_for_norm": [False],
    "resampling_fn_data": "resample_data_or_seg_to_shape",
    "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
    "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
    "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
    "architecture": ARCHITECTURE,
    "batch_dice": True,
}
PLANS = {
    "dataset_name": "Dataset007_Things",
    "plans_name": "nnUNetPlans",
    "image_reader_writer": "SimpleITKIO",
    "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2],
    "foreground_intensity_properties_per_channel": {
        "0": {"mean": 40.0, "std": 20.0, "percentile_00_5": -50.0, "percentile_99_5": 150.0}
    },
    "configurations": {
        "2d": {"patch_size": [16, 16], "spacing": [1.0, 1.0]},
        "3d_fullres": CONFIGURATION,
        "3d_twice": {"inherits_from": "3d_fullres", "batch_size": 4},
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        "circle": {"inherits_from": "circle"},
    },
}
DATASET = {
    "channel_names": {"0": "MRI"},
    "labels": {"background": 0, "thing": 1, "other": 2},
    "numTraining": 12,
    "file_ending": ".nii.gz",
}


def as_nnunet(state: dict) -> dict:
    """Our state dict with the duplicates of nnU-Net's modules."""
    out = {}
    for key, value in state.items():
        twice = key.replace(".conv.", ".all_modules.0.").replace(".norm.", ".all_modules.1.")
        for name in dict.fromkeys((key, twice)):
            out[name] = value
            if name.startswith("encoder."):
                out[f"decoder.{name}"] = value
    return out


def network(out_channels: int = 3, **changed) -> NnunetUNet:
    """The network of ARCHITECTURE."""
    given = ARCHITECTURE["arch_kwargs"]
    arguments = {
        "features": FEATURES,
        "strides": given["strides"],
        "kernel_sizes": given["kernel_sizes"],
        "convolutions": given["n_conv_per_stage"],
        "decoder_convolutions": given["n_conv_per_stage_decoder"],
        "deep_supervision": 1,
    }
    return NnunetUNet(1, out_channels, **{**arguments, **changed})


def checkpoint(net: torch.nn.Module, fold: int = 0, configuration: str = "3d_fullres", **changed) -> dict:
    """What nnUNetTrainer.save_checkpoint writes."""
    return {
        "network_weights": as_nnunet(net.state_dict()),
        "optimizer_state": torch.optim.SGD(net.parameters(), 0.01, momentum=0.99).state_dict(),
        "grad_scaler_state": None,
        "logging": {"ema_fg_dice": [np.float64(0.5), np.float32(0.25)], "lrs": [0.01], "epoch": [np.int64(3)]},
        "_best_ema": np.float64(0.7),
        "current_epoch": 2,
        "init_args": {
            "plans": PLANS,
            "configuration": configuration,
            "fold": fold,
            "dataset_json": DATASET,
            "device": torch.device("cpu"),
        },
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
        **changed,
    }
