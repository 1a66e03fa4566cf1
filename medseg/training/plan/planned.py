"""A bundle that is planned and not written yet, and what both tasks write into train.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.training.plan.template import step, until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.labels import LabelTable
    from medseg.training.plan.choice import Choice
    from medseg.training.plan.pace import Pace


@dataclass(frozen=True)
class Planned:
    """A bundle that is not written yet.

    Args:
        configs: by name, as they stand in configs/.
        metadata: of it.
        table: structures.
        choices: every decision.
        description: in a sentence.
        title: for people.
        anatomy: of the domain, for people.
        modality: DICOM's terms, () where nobody knows.
        template: shipped bundle whose form it has.
    """

    configs: dict[str, dict[str, Any]]
    metadata: dict[str, Any]
    table: LabelTable
    choices: tuple[Choice, ...]
    description: str
    title: str
    modality: tuple[str, ...]
    template: str


def write_train(
    config: dict[str, Any],
    spacing_mm: Sequence[float],
    steps: Sequence[dict[str, Any]],
    patch: Sequence[int],
    batch: int,
    pace: Pace,
    *,
    plain: bool,
) -> None:
    """Write grid, grey values, patch and pace into train.json, in place.

    Args:
        config: train.json of a shipped bundle.
        spacing_mm: of the network's grid.
        steps: that prepare grey values.
        patch: voxels.
        batch: patches at a time.
        pace: epochs, validation, cache.
        plain: cases are found without names of channels.
    """
    config |= {"epochs": pace.epochs, "val_interval": pace.val_interval, "batch_size": batch}
    config["patch_size"] = list(patch)
    if "cache_gb" in config:
        config["cache_gb"] = pace.cache_gb
    train, validate = config["train"], config["validate"]
    loading = until(train["deterministic_transforms"], "ToNetworkGridd")
    loading[-1]["spacing_mm"] = list(spacing_mm)
    train["deterministic_transforms"] = [*loading, *steps]
    for part in (train, validate):
        part["dataset"]["cache_rate"] = pace.cache_rate
        if not plain:
            part["dataset"]["data"]["channels"] = "@channels"
    if pace.at_least:
        train["dataset"]["data"]["at_least"] = pace.at_least
        train["dataset"]["hash_as_key"] = True  # a case that comes twice is kept once


def write_mirror(steps: list[dict[str, Any]], mirror: str) -> None:
    """Keep, replace or take out the flip among random transforms, in place; `mirror` as of `mirroring_of`."""
    flip = step(steps, "RandFlipd")
    if mirror == "swap":
        trade = {"label_keys": "label", "axes": [0], "prob": flip["prob"], "labels": "@labels", "axcodes": "RAS"}
        steps[steps.index(flip)] = {"_target_": "medseg.transforms.RandMirrord", "keys": ["image", "label"], **trade}
    elif not mirror:
        steps.remove(flip)
