"""`--task segmentation`: every decision for a U-Net, written into the form of the shipped bundle."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss

from medseg.networks import UNet
from medseg.training.plan.cascade import cascade_for, write_cascade
from medseg.training.plan.choice import Choice
from medseg.training.plan.classes import classes_of, mirroring_of, painted_values
from medseg.training.plan.described import metadata_of
from medseg.training.plan.label_steps import ignored_choice, write_labels
from medseg.training.plan.loss_choice import loss_for
from medseg.training.plan.memory import PROCESS, STEP_SHARE, measured_step_bytes, step_bytes
from medseg.training.plan.normalisation import normalisation_of
from medseg.training.plan.own_names import own_names
from medseg.training.plan.pace import pace_of
from medseg.training.plan.patch import Patch, patch_for
from medseg.training.plan.planned import Planned, write_mirror, write_train
from medseg.training.plan.sampling import crops, deformation
from medseg.training.plan.spacing import sizes_at, target_spacing
from medseg.training.plan.template import SEGMENTATION, configs_of, step, until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.training.plan.cascade import Cascade
    from medseg.training.plan.classes import Classes
    from medseg.training.plan.look import Facts
    from medseg.training.plan.loss_choice import LossChoice
    from medseg.training.plan.sources import Source
    from medseg.training.plan.split import Split

#: A step that takes more than its share of memory makes the patch smaller, so many times at most.
_TRIES = 3


def plan_segmentation(
    source: Source,
    facts: Sequence[Facts],
    split: Split,
    budget: float,
    *,
    plain: bool,
    measure: bool = True,
    cascade: bool | None = None,
) -> Planned:
    """Plan a U-Net.

    Args:
        source: the dataset.
        facts: of its sound cases.
        split: who trains and who validates.
        budget: bytes of memory for the training.
        plain: images and labels are found by `medseg.training.datalist` without names of channels.
        measure: run one training step, and shrink the patch where it takes more than was estimated.
        cascade: with a locator or without; None: by the rule of `cascade_for`.

    Raises:
        InputError: MS-T150 labels that no bundle can hold.
        UsageError: MS-T151 a budget that is too small.
    """
    train = [one for one in facts if one.name in set(split.train)]
    held = {value for one in facts for value in one.values}
    classes = classes_of(source.said, held, source.path, own_names(one.names for one in facts))
    spacing, about_spacing = target_spacing(train)
    sizes = sizes_at(train, spacing)
    normalisation = normalisation_of(train, source.channels)
    channels = len(source.channels)
    patch, about_step, took = _patch(sizes, spacing, channels, classes.outputs, budget, measure=measure)
    locator, about_locator = cascade_for(train, sizes, spacing, patch.size, cascade)
    if locator is not None:  # it learns in the same step
        beside = _locator_bytes(locator, channels, patch.batch)
        patch, about_step, took = _patch(
            sizes, spacing, channels, classes.outputs, budget, measure=measure, beside=beside
        )
        _, about_locator = cascade_for(train, sizes, spacing, patch.size, cascade)  # a smaller patch, more windows
    loss = loss_for(train, classes, spacing, patch.size, soft=source.soft)
    mirror, about_mirror = mirroring_of(classes.table)
    places, about_places = crops(sizes, patch.size, classes)
    shaken, about_shaken = deformation(patch.size, spacing)
    validating = [one for one in facts if one.name in set(split.validation)]
    pace = pace_of(
        sizes, sizes_at(validating, spacing), patch.size, patch.batch, channels, max(budget - PROCESS - took, 0.0)
    )
    configs = configs_of(SEGMENTATION)
    network = {
        "_target_": "medseg.networks.UNet",
        "in_channels": channels,
        "out_channels": classes.outputs,
        **patch.topology.arguments(),
        "dropout": 0.1,
        "deep_supervision": _supervised(patch),
    }
    if locator is not None:
        network |= {"_target_": "medseg.networks.LocatedUNet", "locator": locator.network()}
    both = {"channels": list(source.channels), "labels": classes.table.to_json(), "network_def": network}
    for name in ("train", "inference"):
        configs[name] |= both
    write_train(configs["train"], spacing, normalisation.steps, patch.size, patch.batch, pace, plain=plain)
    _write_losses(configs["train"], loss)
    _write_random(configs["train"]["train"]["random_transforms"], places, shaken, mirror=mirror)
    configs["train"]["validation"] = list(split.validation)
    _write_validation(configs, classes)
    _write_inference(configs["inference"], spacing, normalisation.steps, patch, classes, mirror=mirror)
    if locator is not None:
        regions = configs["inference"]["inferer"].get("regions")
        write_cascade(configs, locator, classes.inside, regions, mirror=bool(mirror))
    write_labels(configs, classes, soft=source.soft)
    choices = (
        Choice("split", f"{len(split.train)} train, {len(split.validation)} validate", split.why),
        about_spacing, normalisation.choice, classes.choice, *ignored_choice(facts, classes), *patch.choices, about_locator, about_step, loss.choice,
        about_places, about_shaken, about_mirror, *pace.choices,
        Choice("clean-up", "none", "pieces are removed only where cross-validation proves that it helps; none was run"),
    )  # fmt: skip
    names = ", ".join(row.name for row in classes.table)
    title = f"{source.said.get('name') or source.root.resolve().name!s} segmentation"
    shown = names if len(names) < 200 else f"{len(classes.table)} structures"
    description = f"A 3D U-Net that segments {shown} at {' x '.join(f'{mm:g}' for mm in spacing)} mm."
    outputs = _outputs(classes)
    metadata = metadata_of(
        name=title, task=f"Segmentation of {shown}", description=description, said=source.said, channels=source.channels,
        modality=normalisation.modality, table=classes.table, outputs=outputs, divisor=patch.topology.divisor,
    )  # fmt: skip
    return Planned(configs, metadata, classes.table, choices, description, title, normalisation.modality, SEGMENTATION)


def _patch(
    sizes: Any,
    spacing: Sequence[float],
    channels: int,
    outputs: int,
    budget: float,
    *,
    measure: bool,
    beside: float = 0.0,
) -> tuple[Patch, Choice, float]:
    """The patch, smaller where a measured step takes more than its share; and the bytes that a step takes.

    `beside` are bytes that a locator takes in the same step.
    """
    room = budget - beside / STEP_SHARE
    share = STEP_SHARE
    said = [f"the locator is estimated to take {beside / 1e9:.2g} GB"] if beside else []
    patch = patch_for(sizes, spacing, channels, outputs, room, share)
    for _ in range(_TRIES if measure else 0):
        network = UNet(channels, outputs, deep_supervision=_supervised(patch), dropout=0.1, **_arguments(patch))
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        loss = DeepSupervisionLoss(
            DiceCELoss(to_onehot_y=outputs > 1, softmax=outputs > 1, sigmoid=outputs == 1, batch=True)
        )
        images = torch.randn(patch.batch, channels, *patch.size)
        labels = torch.randint(0, max(outputs, 2), (patch.batch, 1, *patch.size)).float()
        took = measured_step_bytes(network, loss, images, labels)
        said.append(
            f"a step with {prod(patch.size)} voxels took {took / 1e9:.2g} GB, estimated {patch.bytes / 1e9:.2g}"
        )
        if took <= STEP_SHARE * room:
            took += beside
            value = f"{(took + PROCESS) / 1e9:.2g} of {budget / 1e9:.3g} GB at the peak of a step, the process included"
            return patch, Choice("memory", value, "measured here: " + "; ".join(said)), took
        share *= 0.9 * STEP_SHARE * room / took
        patch = patch_for(sizes, spacing, channels, outputs, room, share)
    value = f"about {(patch.bytes + beside + PROCESS) / 1e9:.2g} of {budget / 1e9:.3g} GB at the peak of a step"
    return patch, Choice("memory", value, "; ".join(["estimated", *said])), patch.bytes + beside


def _locator_bytes(locator: Cascade, channels: int, batch: int) -> float:
    return step_bytes(locator.topology, locator.window, batch, channels, 1)


def _arguments(patch: Patch) -> dict[str, Any]:
    topology = patch.topology
    return {"features": topology.features, "strides": topology.strides, "kernel_sizes": topology.kernels}


def _supervised(patch: Patch) -> int:
    return max(0, min(2, len(patch.topology.features) - 2))


def _write_losses(config: dict[str, Any], loss: LossChoice) -> None:
    config["losses"] = loss.losses
    config["base_loss"] = f"@losses#{loss.base}"


def _write_random(
    steps: list[dict[str, Any]], places: Sequence[dict[str, Any]], shaken: dict[str, Any], *, mirror: str
) -> None:
    step(steps, "RandDeformd").update(shaken)
    write_mirror(steps, mirror)
    steps[:0] = places


def _write_validation(configs: dict[str, dict[str, Any]], classes: Classes) -> None:
    validate = configs["train"]["validate"]
    steps = validate["postprocessing"]["transforms"]
    if not classes.regions:
        step(steps, "AsDiscreted")["to_onehot"] = classes.outputs
        return
    steps[:] = [
        {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.0},
        {
            "_target_": "medseg.transforms.RegionsFromLabeld",
            "keys": "label",
            "regions": [list(parts) for parts in classes.regions],
        },
    ]
    validate["key_metric"]["val_mean_dice"]["include_background"] = True
    configs["evaluate"].pop("validate#evaluator#additional_metrics", None)  # they take labels that exclude each other


def _write_inference(
    config: dict[str, Any],
    spacing: Sequence[float],
    steps: Sequence[dict[str, Any]],
    patch: Patch,
    classes: Classes,
    *,
    mirror: str,
) -> None:
    loading = until(config["preprocessing"]["transforms"], "ToNetworkGridd")
    loading[-1]["spacing_mm"] = list(spacing)
    config["preprocessing"]["transforms"] = [*loading, *steps]
    config["inferer"]["roi_size"] = list(patch.size)
    if classes.regions:
        config["inferer"]["regions"] = painted_values(classes)
    mc = {"samples": 20, "points": {"dropout_bottleneck": None}}
    config["uncertainty"] = {"mc": mc, **({"mirrors": ["LR"]} if mirror else {})}


def _outputs(classes: Classes) -> dict[str, str]:
    if classes.regions:
        by_parts = {row.region: row.name for row in classes.table}
        return {str(n): by_parts[parts] for n, parts in enumerate(classes.regions)}
    return {"0": "background", **{str(n): row.name for n, row in enumerate(classes.table, 1)}}
