"""Run by the Python of .venv-nnunet: nnU-Net plans, trains and predicts, so that medseg's import can be held against it.

Usage: python with_nnunet.py WORK     WORK/raw/Dataset004_Hippocampus holds the data

WORK/results/...              trained folders: two folds of 2 short epochs, and copies with other plans (VARIANTS)
WORK/predicted/NAME/CASE.nii.gz, WORK/predicted/NAME-all/...    fold 0 alone, and both folds
WORK/networks/NAME.pt         state dict, input and logits of networks with random weights
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
from copy import deepcopy
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

WORK = Path(sys.argv[1])
for name, folder in (("raw", "raw"), ("preprocessed", "preprocessed"), ("results", "results")):
    os.environ[f"nnUNet_{name}"] = str(WORK / folder)
os.environ |= {"nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1", "nnUNet_compile": "f"}

import numpy as np  # noqa: E402
import torch  # noqa: E402
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments  # noqa: E402
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor  # noqa: E402
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer  # noqa: E402
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans  # noqa: E402
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager  # noqa: E402

DATASET = "Dataset004_Hippocampus"
CONFIGURATION = "3d_fullres"
FEATURES = [8, 16, 32]
EPOCHS, STEPS = 2, 25


def main() -> None:
    torch.set_num_threads(1)
    # Its worker processes would each import torch anew, for a second's work.
    multiprocessing.get_context = lambda *_: SimpleNamespace(Pool=ThreadPool)
    for folder in ("preprocessed", "results", "predicted", "networks"):
        (WORK / folder).mkdir()
    trained = train()
    for name, change in VARIANTS.items():
        folder = trained if name == "as_trained" else changed(trained, name, change)
        predict(folder, name, folds=(0,))
    predict(trained, "as_trained-all", folds=(0, 1))
    for name in NETWORKS:
        random_network(name)


def train() -> Path:
    """Plan as nnU-Net does, with fewer features and patches at a time, and train two folds."""
    extract_fingerprints([4], num_processes=1, show_progress_bar=False)
    plan_experiments([4])
    file = WORK / "preprocessed" / DATASET / "nnUNetPlans.json"
    plans = json.loads(file.read_text())
    configuration = plans["configurations"][CONFIGURATION]
    kwargs = configuration["architecture"]["arch_kwargs"]
    kwargs["features_per_stage"] = FEATURES + [32] * (kwargs["n_stages"] - 3)
    configuration["batch_size"] = 2
    file.write_text(json.dumps(plans))
    manager = PlansManager(str(file)).get_configuration(CONFIGURATION)
    manager.preprocessor_class(verbose=False).run(4, CONFIGURATION, "nnUNetPlans", num_processes=1)
    dataset = json.loads((WORK / "raw" / DATASET / "dataset.json").read_text())
    os.environ |= {"nnUNet_n_proc_DA": "0"}  # no worker processes
    for fold in (0, 1):
        torch.manual_seed(fold)
        np.random.seed(fold)  # noqa: NPY002 - what nnU-Net draws from
        trainer = nnUNetTrainer(
            {**deepcopy(plans), "continue_training": False}, CONFIGURATION, fold, dataset, torch.device("cpu")
        )
        trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = EPOCHS, STEPS, 1
        trainer.initialize()
        trainer.run_training()
        find_something(trainer)
    return Path(trainer.output_folder_base)


def find_something(trainer: nnUNetTrainer) -> None:
    """Shift the biases of the last layer until either structure beats the background in a tenth of a batch.

    So short a training has only learned that most is background: it would find nothing, and nothing could be compared.
    Logits are moved to about 0 where classes meet, as a finished training leaves them: nnU-Net adds up in half precision,
    which is coarse far from 0.
    """
    network = trainer.network.eval()
    network.decoder.deep_supervision = False
    with torch.no_grad():
        logits = network(next(trainer.dataloader_val)["data"])
        for n in (1, 2):
            network.decoder.seg_layers[-1].bias[n] -= (logits[:, n] - logits[:, 0]).quantile(0.9)
        network.decoder.seg_layers[-1].bias -= logits[:, 0].median()
    trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))


def changed(trained: Path, name: str, change) -> Path:
    """A copy of the trained folder whose plans (and, for regions, heads) are others: the weights take any images.

    `change` alters the tables in place and says along which axes prediction may mirror (none: None).
    """
    folder = WORK / "results" / name
    shutil.copytree(trained, folder)
    plans, dataset = (json.loads((folder / f"{one}.json").read_text()) for one in ("plans", "dataset"))
    axes = change(plans, plans["configurations"][CONFIGURATION], dataset, folder)
    for path in folder.glob("fold_*/checkpoint_final.pth"):
        checkpoint = torch.load(path, weights_only=False)
        checkpoint["inference_allowed_mirroring_axes"] = axes
        torch.save(checkpoint, path)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return folder


def finer(plans, configuration, dataset, folder):
    plans["transpose_forward"], plans["transpose_backward"] = [2, 0, 1], [1, 2, 0]
    configuration["spacing"] = [1.3, 0.8, 0.9]
    return (1,)


def thick(plans, configuration, dataset, folder):
    configuration["spacing"] = [3.5, 0.9, 1.0]
    configuration["use_mask_for_norm"] = [True]


def torch_resampled(plans, configuration, dataset, folder):
    configuration["spacing"] = [0.8, 1.2, 1.1]
    for what in ("data", "probabilities"):
        configuration[f"resampling_fn_{what}"] = "resample_torch_fornnunet"
        configuration[f"resampling_fn_{what}_kwargs"] = {"is_seg": False, "force_separate_z": False}
    plans["image_reader_writer"] = "NibabelIOWithReorient"
    return (0,)


def regions(plans, configuration, dataset, folder):
    """Two sigmoids: the whole hippocampus and, painted over it, its posterior part."""
    dataset["labels"] = {"background": 0, "whole": [1, 2], "posterior": [2]}
    dataset["regions_class_order"] = [1, 2]
    for path in folder.glob("fold_*/checkpoint_final.pth"):
        checkpoint = torch.load(path, weights_only=False)
        for key, value in checkpoint["network_weights"].items():
            if "seg_layers" in key:
                checkpoint["network_weights"][key] = torch.stack([value[1:].mean(0) - value[0], value[2] - value[1]])
        torch.save(checkpoint, path)
    return (0, 2)


VARIANTS = {
    "as_trained": None,
    "finer": finer,
    "thick": thick,
    "torch_resampled": torch_resampled,
    "regions": regions,
}


def predict(folder: Path, name: str, folds: tuple[int, ...]) -> None:
    """nnU-Net's own prediction with its defaults: half overlap, Gaussian, mirror images."""
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), folds)
    out = WORK / "predicted" / name
    out.mkdir()
    predictor.predict_from_files_sequential(str(WORK / "raw" / DATASET / "imagesTs"), str(out))


_BASE = {
    "n_stages": 4,
    "features_per_stage": [4, 6, 8, 8],
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2], [1, 2, 2]],
    "n_conv_per_stage_decoder": [1, 2, 3],
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
_IMPORTED = ["conv_op", "norm_op", "dropout_op", "nonlin"]
_UNET = "dynamic_network_architectures.architectures.unet."
NETWORKS = {
    "plain": (_UNET + "PlainConvUNet", {**_BASE, "n_conv_per_stage": [2, 1, 3, 2]}),
    "nonlin_first": (_UNET + "PlainConvUNet", {**_BASE, "n_conv_per_stage": 2, "nonlin_first": True}),
    "residual": (_UNET + "ResidualEncoderUNet", {**_BASE, "n_blocks_per_stage": [1, 3, 2, 2]}),
    "batch_norm": (
        _UNET + "ResidualEncoderUNet",
        {
            **_BASE,
            "n_blocks_per_stage": [1, 2, 2, 1],
            "norm_op": "torch.nn.modules.batchnorm.BatchNorm3d",
            "conv_bias": False,
            "nonlin": "torch.nn.ReLU",
        },
    ),
}


def random_network(name: str) -> None:
    network_class, kwargs = NETWORKS[name]
    torch.manual_seed(0)
    network = get_network_from_plans(network_class, kwargs, _IMPORTED, 2, 3, deep_supervision=True)
    for weight in network.parameters():  # no scale of 1, no offset of 0
        torch.nn.init.normal_(weight, 0.1, 0.3)
    image = torch.randn(2, 2, 8, 16, 24)
    network.train()
    network(image)  # batch norm gathers statistics
    network.eval()
    with torch.no_grad():
        outputs = network(image)
    configuration = {"architecture": {"network_class_name": network_class, "arch_kwargs": kwargs}}
    found = {
        "state": network.state_dict(),
        "image": image,
        "outputs": outputs,
        "configuration": json.dumps(configuration),
    }
    torch.save(found, WORK / "networks" / f"{name}.pt")


if __name__ == "__main__":
    main()
