"""`medseg bundle import`: a trained nnU-Net v2 folder becomes a bundle."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file

from medseg.bundle.check import check_bundle
from medseg.bundle.config import read_config
from medseg.bundle.config_text import config_text
from medseg.bundle.nnunet.architecture import network_def
from medseg.bundle.nnunet.cases import look_at_cases
from medseg.bundle.nnunet.checkpoint import read_checkpoint
from medseg.bundle.nnunet.described import data_license, metadata_of, model_card
from medseg.bundle.nnunet.folder import find_trained
from medseg.bundle.nnunet.labels import channels_of, outputs_of
from medseg.bundle.nnunet.plans import configuration_of, entry
from medseg.bundle.nnunet.preprocessing import from_grid, to_grid
from medseg.bundle.nnunet.train import write_train
from medseg.bundle.shipped import find_bundle
from medseg.bundle.weights import half, load_into, save_weights
from medseg.errors import BundleError, OutputError
from medseg.networks import NnunetUNet
from medseg.writers.atomic import atomic_write, write_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from medseg.bundle.check import Problem
    from medseg.bundle.nnunet.checkpoint import Checkpoint
    from medseg.bundle.nnunet.folder import Trained
    from medseg.bundle.nnunet.labels import Outputs

#: The shipped bundle whose form an imported one has.
TEMPLATE = "hippocampus_mri_segmentation"
_COPIED = ("LICENSE", "configs/logging.conf")
_AXES = ("LR", "AP", "SI")
_CT = ("ct", "cta")


@dataclass(frozen=True)
class Imported:
    """What was written.

    Args:
        bundle: its folder.
        configuration: of nnU-Net, such as "3d_fullres".
        trainer: name of the class that trained it.
        folds: that were imported, the bundle's own network first.
        structures: names of the label map.
        problems: what `medseg bundle check` says of the bundle.
    """

    bundle: Path
    configuration: str
    trainer: str
    folds: tuple[str, ...]
    structures: tuple[str, ...]
    problems: tuple[Problem, ...]


def import_nnunet(
    folder: Path,
    out: Path,
    *,
    folds: Sequence[str] = (),
    checkpoint: str = "final",
    data: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Imported:
    """Turn a trained nnU-Net v2 folder into a bundle.

    Args:
        folder: with plans.json, dataset.json and fold_*/checkpoint_*.pth.
        out: the bundle; an empty or new folder.
        folds: that are wanted, the first becoming the bundle's own network; (): all.
        checkpoint: "final", "best" or "latest".
        data: the dataset that it was trained with: the bundle's domain is measured on it, and scans that store their
            axes otherwise are turned to its directions.
        progress: called with (cases of `data` read, cases in all).

    Raises:
        OutputError: MS-B157 `out` holds something already.
        BundleError: MS-B150 to MS-B156 the model cannot be imported, MS-B112 and MS-B114 nor its weights be read; MS-B158
            folds that do not belong together, or a network that is not the plans'.
        UsageError: MS-U174 an unknown checkpoint.
        InputError: MS-C1xx, MS-B159 and others where `data` cannot be used.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError("MS-B157", "the bundle's folder is not empty", file=out, mend="give another with -o")
    trained = find_trained(folder, folds, checkpoint)
    checkpoints = {fold: read_checkpoint(path) for fold, path in trained.checkpoints.items()}
    first = _agreed(checkpoints)
    configuration = configuration_of(trained.plans, first.configuration, folder)
    channels, outputs = channels_of(trained.dataset, folder), outputs_of(trained.dataset, folder)
    defined = network_def(configuration, len(channels), len(outputs.channels), list(first.weights), folder)
    network = NnunetUNet(**{key: value for key, value in defined.items() if key != "_target_"})
    for read in checkpoints.values():
        _fits(network, read, configuration)
    grid = to_grid(trained.plans, configuration, len(channels), folder)
    modality = ("CT",) if all(_is_ct(*one) for one in zip(grid["normalisation"], channels, strict=True)) else ()
    told = None if data is None else look_at_cases(data, channels, outputs.table, modality, progress)
    if told is not None and told.axcodes is not None:
        grid.setdefault("axcodes", told.axcodes)
    configs = _configs(trained, configuration, defined, channels, outputs, grid, checkpoints)
    if told is not None:
        configs["inference"]["domain"] = told.domain
    title = f"{trained.plans.get('dataset_name') or trained.dataset.get('name') or folder.name} segmentation"
    source = str(trained.dataset.get("reference") or trained.dataset.get("name") or "")
    metadata = metadata_of(title, channels, outputs, network.divisor, modality, source)
    axes = grid.get("axcodes")
    card = model_card(
        metadata, trained.dataset, trained.plans, checkpoints, mirrored=bool(first.mirror_axes), axes=axes
    )
    _write(out, configs, metadata, card, trained.dataset, checkpoints)
    names = tuple(row.name for row in outputs.table)
    return Imported(out, first.configuration, first.trainer, tuple(checkpoints), names, tuple(check_bundle(out)))


def _agreed(checkpoints: Mapping[str, Checkpoint]) -> Checkpoint:
    """The first fold's checkpoint, with which the others must agree."""
    first, *others = checkpoints.values()
    for read in others:
        same = (read.configuration, read.mirror_axes) == (first.configuration, first.mirror_axes)
        if not same or {k: v.shape for k, v in read.weights.items()} != {k: v.shape for k, v in first.weights.items()}:
            raise BundleError(
                "MS-B158",
                f"this fold was trained otherwise than {first.path.parent.name} ({read.configuration}, {read.trainer}; "
                f"{first.configuration}, {first.trainer})",
                file=read.path,
                mend="import folds of one training: name them with --folds",
            )
    return first


def _fits(network: NnunetUNet, read: Checkpoint, configuration: Mapping[str, Any]) -> None:
    try:
        load_into(network, read.weights, read.path)
    except BundleError as error:
        if error.code != "MS-B113":
            raise
        named = (configuration.get("architecture") or {}).get("network_class_name", "its U-Net")
        raise BundleError(
            "MS-B158",
            f"the trainer {read.trainer} built another network than the {str(named).rsplit('.', 1)[-1]} of plans.json: "
            f"{error.what}",
            file=read.path,
            mend="models of trainers that build a network of their own cannot be imported; use nnU-Net itself",
        ) from error


def _configs(
    trained: Trained,
    configuration: Mapping[str, Any],
    defined: dict[str, Any],
    channels: Sequence[str],
    outputs: Outputs,
    grid: dict[str, Any],
    checkpoints: Mapping[str, Checkpoint],
) -> dict[str, dict[str, Any]]:
    root = find_bundle(TEMPLATE)
    names = ("inference", "train", "evaluate", "multi_gpu_train")
    configs = {name: deepcopy(read_config(root, name)) for name in names}
    for name in ("inference", "train"):
        configs[name] |= {"channels": list(channels), "labels": outputs.table.to_json(), "network_def": defined}
    axes = next(iter(checkpoints.values())).mirror_axes
    inference = configs["inference"]
    inference.pop("domain")
    inference["uncertainty"] = _uncertainty(list(checkpoints)[1:], _patient_axes(axes, grid))
    inference["preprocessing"]["transforms"] = [*inference["preprocessing"]["transforms"][:2], grid]
    inference["inferer"] = {
        "_target_": "medseg.inferers.SlidingWindowInferer",
        "roi_size": [int(n) for n in entry(configuration, "patch_size", trained.root)],
        "overlap": 0.5,
        "mode": "nnunet",
        "spread": True,
        "output": "logits",
        **({"mirror_axes": list(axes)} if axes else {}),
        **({"regions": list(outputs.regions)} if outputs.regions else {}),
    }
    back = from_grid(configuration, outputs.regions, trained.root)
    inference["postprocessing"]["transforms"] = [back, *inference["postprocessing"]["transforms"][1:]]
    cases = trained.dataset.get("numTraining")
    write_train(configs["train"], configuration, grid, outputs, axes, cases if isinstance(cases, int) else 0)
    if outputs.regions:  # its further metrics take labels that exclude each other
        configs["evaluate"].pop("validate#evaluator#additional_metrics", None)
    return configs


def _uncertainty(others: Sequence[str], mirrors: Sequence[str]) -> dict[str, Any]:
    """Further folds are members, and what nnU-Net mirrored along are symmetries."""
    said: dict[str, Any] = {}
    if others:
        said["ensemble"] = {"weights": [f"models/fold_{fold}.safetensors" for fold in others]}
    if mirrors:
        said["mirrors"] = ["+".join(some) for n in range(1, len(mirrors) + 1) for some in combinations(mirrors, n)]
    return said


def _patient_axes(axes: Sequence[int], grid: Mapping[str, Any]) -> list[str]:
    """Array axes of the network's grid as patient axes.

    All three are all patient axes, in whatever order; of fewer it is known only where the directions of the file's are.
    """
    if sorted(axes) == [0, 1, 2]:
        return list(_AXES)
    if "axcodes" not in grid:
        return []
    along = [_AXES[next(n for n, pair in enumerate(("RL", "AP", "SI")) if code in pair)] for code in grid["axcodes"]]
    return sorted((along[2 - grid["transpose"][axis]] for axis in axes), key=_AXES.index)


def _is_ct(how: Mapping[str, Any], name: str) -> bool:
    return how["scheme"] == "ct" or name.casefold() in _CT


def _write(
    out: Path,
    configs: Mapping[str, dict[str, Any]],
    metadata: dict[str, Any],
    card: str,
    dataset: Mapping[str, Any],
    checkpoints: Mapping[str, Checkpoint],
) -> None:
    """metadata.json comes last: without it a folder is no bundle."""
    template = find_bundle(TEMPLATE)
    for name in _COPIED:
        write_text(out / name, (template / name).read_text(encoding="utf-8"))
    write_text(out / "docs" / "README.md", card)
    write_text(out / "docs" / "data_license.txt", data_license(dataset))
    for name, config in configs.items():
        write_text(out / "configs" / f"{name}.json", config_text(config))
    (first, own), *others = checkpoints.items()
    del first
    save_weights(own.weights, out)
    for fold, read in others:
        state = half(read.weights, read.path)
        path = out / "models" / f"fold_{fold}.safetensors"
        atomic_write(path, lambda temporary, state=state: save_file(state, temporary, metadata={"format": "pt"}))
    write_text(out / "configs" / "metadata.json", config_text(metadata))
