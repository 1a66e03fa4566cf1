"""train.json of an imported model, so that it can be trained further: the form of the shipped bundle, filled in.

The network, its labels and what it sees are the model's; loss, schedule and augmentation are medseg's, with nnU-Net's
patch, batch and mirror axes. `medseg train BUNDLE DATA -o RUN --init BUNDLE` begins with the imported weights.
"""

from __future__ import annotations

from math import ceil, prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medseg.bundle.nnunet.labels import Outputs

#: A place is cut so much larger than the patch, so that rotation and zoom find anatomy at its corners.
_ROOM = 1.25
#: Bytes of preprocessed cases that are kept in memory.
_CACHE = 4e9
_KEY = "-places"


def write_train(
    config: dict[str, Any],
    configuration: Mapping[str, Any],
    grid: Mapping[str, Any],
    outputs: Outputs,
    mirror_axes: Sequence[int],
    cases: int,
) -> None:
    """Write into train.json of the shipped bundle, in place.

    Args:
        config: with channels, labels and network_def of the model already.
        configuration: of plans.json.
        grid: its `ToNnunetGridd`.
        outputs: classes or regions.
        mirror_axes: along which nnU-Net mirrored.
        cases: that the model was trained with.
    """
    patch = [int(n) for n in configuration["patch_size"]]
    median = [float(n) for n in configuration.get("median_image_size_in_voxels") or patch]
    config |= {"patch_size": patch, "batch_size": int(configuration.get("batch_size", 2)), "validation": []}
    train, validate = config["train"], config["validate"]
    loading = train["deterministic_transforms"][:2]
    train["deterministic_transforms"] = [*loading, {**grid, "keys": ["image", "label"], "label_keys": "label"}]
    bytes_of_all = 4 * len(config["channels"]) * prod(median) * max(cases, 1)
    for part in (train, validate):
        part["dataset"]["cache_rate"] = round(min(1.0, _CACHE / bytes_of_all), 2)
        part["dataset"]["data"]["channels"] = "@channels"
    steps = [step for step in train["random_transforms"] if step["_target_"] != "RandFlipd"]
    flips = [
        {"_target_": "RandFlipd", "keys": ["image", "label"], "prob": 0.5, "spatial_axis": axis} for axis in mirror_axes
    ]
    places = [] if all(p >= 0.9 * n for p, n in zip(patch, median, strict=True)) else _places(patch, outputs)
    train["random_transforms"] = [*places, steps[0], *flips, *steps[1:]]
    _judge(config, outputs)


def _places(patch: Sequence[int], outputs: Outputs) -> list[dict[str, Any]]:
    """Two thirds of the patches around a labelled voxel, of every label equally often."""
    values = sorted({value for row in outputs.table for value in (row.region or (row.value,))})
    top = values[-1] + 1
    ratios = [1.0, *[round(2 / len(values), 4) if value in values else 0.0 for value in range(1, top)]]
    both, sizes = ["image", "label"], [ceil(_ROOM * n) for n in patch]
    return [
        {
            "_target_": "ClassesToIndicesd", "keys": "label", "indices_postfix": _KEY, "num_classes": top,
            "max_samples_per_class": 2000,
        },
        {
            "_target_": "RandCropByLabelClassesd", "keys": both, "label_key": "label", "spatial_size": sizes,
            "ratios": ratios, "num_classes": top, "num_samples": 1, "indices_key": f"label{_KEY}", "allow_smaller": True,
            "warn": False,
        },
        {"_target_": "DeleteItemsd", "keys": f"label{_KEY}"},
    ]  # fmt: skip


def _judge(config: dict[str, Any], outputs: Outputs) -> None:
    """Loss and validation for so many classes, or for regions."""
    after = config["validate"]["postprocessing"]["transforms"]
    if outputs.regions is None:
        next(step for step in after if step["_target_"] == "AsDiscreted")["to_onehot"] = len(outputs.channels)
        return
    regions = [list(outputs.table.by_value[value].region) for value in outputs.regions]
    loss = {"_target_": "DiceCELoss", "sigmoid": True, "batch": True}
    config["losses"] = {"dice_ce": {"_target_": "medseg.training.RegionLoss", "loss": loss, "regions": regions}}
    config["base_loss"] = "@losses#dice_ce"
    after[:] = [
        {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.0},
        {"_target_": "medseg.transforms.RegionsFromLabeld", "keys": "label", "regions": regions},
    ]
    config["validate"]["key_metric"]["val_mean_dice"]["include_background"] = True
