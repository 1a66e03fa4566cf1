"""From a batch of images and instance maps to what a network that learns instances is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from monai.data.meta_tensor import MetaTensor

from medseg.networks.truth import Truth, truth_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import Tensor


def prepare_instances(
    batch: Mapping[str, Any], device: str | torch.device | None = None, non_blocking: bool = False, **how: Any
) -> tuple[Tensor, list[Truth], tuple[list[Truth]], dict[str, Any]]:
    """`prepare_batch` of MONAI's trainer and evaluator: boxes are made from the maps as they are now.

    Args:
        batch: of `medseg.transforms.collate_instances`.
        device: where the network computes.
        non_blocking: copy without waiting.
        how: as MONAI hands it on to `Tensor.to`.

    Returns:
        Images (B, C, D, H, W); what is true of each; the same as the network's second argument; no keyword arguments.
    """
    images = _plain(batch["image"]).to(device=device, non_blocking=non_blocking, **how)
    truth = [
        truth_of(_plain(label[0]).to(device), classes, flags)
        for label, classes, flags in zip(batch["label"], batch["classes"], batch["flags"], strict=True)
    ]
    return images, truth, (truth,), {}


def _plain(tensor: Tensor) -> Tensor:
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
