"""Images and labels pulled through a spline, once: linear interpolation, and for labels the greatest trilinear weight.

On the CPU one compiled loop does both for each voxel (`warp_kernel`). On any other device, or for whole batches with
a map for each sample, the same in torch (`deform_batch`). What lies outside the image is 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from medseg.transforms import warp_kernel
from medseg.transforms.instances.crop import cut_patch
from medseg.transforms.spline import Deformation, coordinates
from medseg.transforms.vote import vote_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

#: Labels of these are read as they are; others become int32 first.
_NATIVE = frozenset({torch.uint8, torch.int16, torch.int32})
#: The kernel counts voxels in 32 bits.
_MOST_VOXELS = 2**31 - 1


def deform(image: Tensor, deformation: Deformation) -> Tensor:
    """Linear interpolation of (C, I, J, K) at the deformed coordinates; zero outside -> (C, D, H, W) float32."""
    return warp(image, image.new_zeros(0, *image.shape[1:], dtype=torch.uint8), deformation)[0]


def deform_labels(labels: Tensor, deformation: Deformation) -> Tensor:
    """The label of greatest interpolated weight, of (L, I, J, K) >= 0; 0 outside -> (L, D, H, W), same dtype."""
    return warp(labels.new_zeros(0, *labels.shape[1:], dtype=torch.float32), labels, deformation)[1]


def warp(image: Tensor, labels: Tensor, deformation: Deformation) -> tuple[Tensor, Tensor]:
    """An image and its labels, pulled together.

    Args:
        image: (C, I, J, K) of any real dtype.
        labels: (L, I, J, K) whole numbers from 0 that fit 32 bits, any dtype; on the grid and device of the image.
        deformation: where output voxels come from. A mere shift by whole voxels is cut out exactly.

    Returns:
        (C, D, H, W) float32 and (L, D, H, W) of the labels' dtype.
    """
    if image.shape[1:] != labels.shape[1:]:
        msg = f"image and labels lie on one grid, got {tuple(image.shape[1:])} and {tuple(labels.shape[1:])}"
        raise ValueError(msg)
    if deformation.start is not None:
        return tuple(cut_patch(x, deformation.start, deformation.size) for x in (image, labels))  # type: ignore[return-value]
    if image.device.type != "cpu":
        moved, moved_labels = deform_batch(image[None], labels[None], [deformation])
        return moved[0], moved_labels[0]
    control = deformation.control
    if not _as_it_is(image, torch.float32) or not _as_it_is(labels, labels.dtype):
        where = _reach(control, image.shape[1:])
        control = control - torch.tensor([s.start for s in where], dtype=torch.float32).reshape(3, 1, 1, 1)
        image, labels = image[(slice(None), *where)], labels[(slice(None), *where)]
    whole = labels if labels.dtype in _NATIVE else labels.to(torch.int32)
    out, out_labels = warp_kernel.pull(
        image.float().contiguous().numpy(), whole.contiguous().numpy(), control.numpy(), deformation.size,
        torch.get_num_threads(),
    )  # fmt: skip
    return torch.from_numpy(out), torch.from_numpy(out_labels).to(labels.dtype)


def deform_batch(images: Tensor, labels: Tensor, deformations: Sequence[Deformation]) -> tuple[Tensor, Tensor]:
    """`warp` for a batch in torch, on its own device, each sample by its own map.

    Args:
        images: (B, C, I, J, K).
        labels: (B, L, I, J, K), same device.
        deformations: B maps of one size and one number of control points.

    Returns:
        (B, C, D, H, W) float32 and (B, L, D, H, W) of the labels' dtype.
    """
    places = coordinates(deformations, images.device)
    grid = _to_grid_sample(places, images.shape[2:])
    # grid_sample does not take 0 channels.
    moved = (
        torch.nn.functional.grid_sample(images.float(), grid, align_corners=False)
        if images.shape[1]
        else images.new_zeros(len(images), 0, *deformations[0].size, dtype=torch.float32)
    )
    out = labels.new_empty(*labels.shape[:2], *deformations[0].size)
    for b, sample in enumerate(labels):
        for c, channel in enumerate(sample):
            out[b, c] = vote_labels(channel, places[b])
    return moved, out


def _as_it_is(tensor: Tensor, dtype: torch.dtype) -> bool:
    native = dtype == torch.float32 or dtype in _NATIVE
    return tensor.dtype == dtype and native and tensor.is_contiguous() and tensor[:1].numel() <= _MOST_VOXELS


def _reach(control: Tensor, shape: Sequence[int]) -> tuple[slice, ...]:
    """The part of the image that is looked at: a spline stays between the least and the greatest control value."""
    low, high = control.flatten(1).min(1).values.numpy(), control.flatten(1).max(1).values.numpy()
    first = [int(np.clip(np.floor(a), 0, n - 1)) for a, n in zip(low, shape, strict=True)]
    last = [int(np.clip(np.floor(b) + 1, f, n - 1)) for b, f, n in zip(high, first, shape, strict=True)]
    return tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))


def _to_grid_sample(coordinates: Tensor, size: Sequence[int]) -> Tensor:
    """Voxel indices (..., 3) to edges at -1 and 1, last axis first, as grid_sample(align_corners=False) wants."""
    voxels = torch.tensor([float(n) for n in size], device=coordinates.device)
    return (coordinates.float() * (2 / voxels) + (1 / voxels - 1)).flip(-1)
