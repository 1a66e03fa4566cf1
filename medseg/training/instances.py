"""Between MONAI's loaders and engines and a network that learns instances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from medseg.networks.truth import Truth, truth_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def collate_instances(cases: Sequence[Mapping[str, Any]] | Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """A batch: images and instance maps stacked, tables of instances (`classes`, `flags`) as lists.

    Args:
        cases: what `InstancesFromLabeld` and the crops after it return; or lists of them, of transforms that give
            several samples a case.
    """
    flat = [one for case in cases for one in (case if isinstance(case, list | tuple) else [case])]
    stacked = {key: torch.stack([torch.as_tensor(case[key]) for case in flat]) for key in ("image", "label")}
    return stacked | {key: [case[key] for case in flat] for key in ("classes", "flags")}


def prepare_instances(
    batch: Mapping[str, Any], device: str | torch.device | None = None, non_blocking: bool = False, **how: Any
) -> tuple[Tensor, list[Truth], tuple[list[Truth]], dict[str, Any]]:
    """`prepare_batch` of MONAI's trainer and evaluator: boxes are made from the maps as they are now.

    Args:
        batch: of `collate_instances`.
        device: where the network computes.
        non_blocking: copy without waiting.
        how: as MONAI hands it on to `Tensor.to`.

    Returns:
        Images (B, C, D, H, W); what is true of each; the same as the network's second argument; no keyword arguments.
    """
    images = batch["image"].to(device=device, non_blocking=non_blocking, **how)
    truth = [
        truth_of(label[0].to(device), classes, flags)
        for label, classes, flags in zip(batch["label"], batch["classes"], batch["flags"], strict=True)
    ]
    return images, truth, (truth,), {}
