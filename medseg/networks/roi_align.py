"""Volumetric RoIAlign: features of boxes of any size, resampled to one number of bins.

He et al., "Mask R-CNN", ICCV 2017, in three dimensions and in the aligned half-voxel convention only; what that means
for single voxels stands, hand-worked, in `roi_align_samples.py`.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import TYPE_CHECKING, Literal

import torch

from medseg.networks import roi_align_grid as grid
from medseg.networks import roi_align_separable as separable
from medseg.networks.roi_align_samples import sample_axis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

BACKENDS = ("auto", "separable", "grid")


def roi_align_3d(
    features: Tensor,
    boxes: Tensor,
    output_size: int | Sequence[int],
    spatial_scale: float | Sequence[float] = 1.0,
    sampling_ratio: int | None = 2,
    backend: Literal["auto", "separable", "grid"] = "auto",
) -> Tensor:
    """Average features over the bins of boxes, each bin sampled by trilinear interpolation.

    A box is cut into `output_size` equal bins; each bin is the mean of `sampling_ratio` samples along each axis. The
    result is exact for fields that are linear along each axis, wherever samples lie between voxel centres. Gradients go to
    the features; the boxes get none, as in Mask R-CNN.

    Args:
        features: (B, C, D, H, W); float32, float64, float16 or bfloat16. Coordinates and weights are computed in
            float32 at least, also under autocast. Fastest if the memory format is `torch.channels_last_3d`.
        boxes: (R, 7): index of the volume, then (low, low, low, high, high, high) voxel edges in the order of the axes,
            voxel i covering [i, i + 1). Samples further than one voxel out add 0 to their bin; a box that is not finite
            gives zeros.
        output_size: bins, one number or one for each axis.
        spatial_scale: voxels of the features per unit of the boxes, one number or one for each axis (a level of stride
            4 has 0.25).
        sampling_ratio: samples a bin and axis; 0 or None: as many as the bin is voxels wide, for each box.
        backend: "separable" is exact and fast and runs eagerly (on a CPU a compiled kernel, elsewhere batched matrix
            products), deterministic also in the backward. "grid" samples every point with `grid_sample`; standard
            operators only. "auto": "grid" where a graph is exported, else "separable".

    Returns:
        (R, C, Pd, Ph, Pw), dtype of the features; from "separable" in memory format `torch.channels_last_3d`.

    Raises:
        ValueError: a shape, dtype, device or number is not as said above, or a box names a volume that is not there.
    """
    if not torch.compiler.is_exporting():  # a MetaTensor's own functions cost time and know nothing to add here
        features, boxes = features.as_subclass(torch.Tensor), boxes.as_subclass(torch.Tensor)
    _check_tensors(features, boxes)
    bins = _three(output_size, int, "output_size")
    scales = _three(spatial_scale, float, "spatial_scale")
    ratio = sampling_ratio or None
    if ratio is not None and (ratio != int(ratio) or ratio < 1):
        msg = f"sampling_ratio is a whole number >= 1, or 0 or None for as many as the box needs, got {sampling_ratio}"
        raise ValueError(msg)
    chosen = _choose(backend, features, ratio)
    boxes = boxes.detach()
    batch = _volumes(boxes[:, 0], features.shape[0])
    edges = boxes[:, 1:].to(_at_least_float32(features, boxes))
    axes = [
        sample_axis(edges[:, a], edges[:, a + 3], scales[a], features.shape[2 + a], bins[a], ratio) for a in range(3)
    ]
    if chosen == "separable":
        return separable.pool(features, batch, axes)
    # An exported graph gets no autocast of its own, which other runtimes would not know.
    kind = features.device.type
    with torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext():
        return grid.pool(features.to(_at_least_float32(features)), batch, axes, ratio).to(features.dtype)


def _choose(backend: str, features: Tensor, ratio: int | None) -> str:
    exporting = torch.compiler.is_exporting()
    if backend not in BACKENDS:
        msg = f"backend is one of {', '.join(BACKENDS)}, got {backend!r}"
        raise ValueError(msg)
    if exporting and ratio is None:
        msg = "an exported graph needs a sampling_ratio >= 1: without, each box has its own number of samples"
        raise ValueError(msg)
    if exporting and backend == "separable":
        msg = "the separable backend runs eagerly and cannot be exported; backend='auto' exports the grid"
        raise ValueError(msg)
    if backend == "auto":
        return "grid" if exporting or features.device.type == "mps" else "separable"  # MPS has no float64
    return backend


def _at_least_float32(*tensors: Tensor) -> torch.dtype:
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def _check_tensors(features: Tensor, boxes: Tensor) -> None:
    if features.ndim != 5 or not features.is_floating_point():
        msg = f"features are (B, C, D, H, W) of floating point, got {tuple(features.shape)} {features.dtype}"
        raise ValueError(msg)
    if boxes.ndim != 2 or boxes.shape[1] != 7 or not boxes.is_floating_point():
        msg = f"boxes are (R, 7) of floating point: volume, low x 3, high x 3; got {tuple(boxes.shape)} {boxes.dtype}"
        raise ValueError(msg)
    if features.device != boxes.device:
        msg = f"features lie on {features.device}, boxes on {boxes.device}"
        raise ValueError(msg)


def _three(value, kind: type, name: str) -> tuple:
    values = (value,) * 3 if isinstance(value, (int, float)) else tuple(value)
    good = len(values) == 3 and all(math.isfinite(v) and v > 0 and v == kind(v) for v in values)
    if not good:
        msg = f"{name} is one {'whole ' if kind is int else ''}number above 0, or three; got {value!r}"
        raise ValueError(msg)
    return tuple(kind(v) for v in values)


def _volumes(index: Tensor, count: int) -> Tensor:
    """(R,) int64, checked where the numbers can be seen; a graph being exported keeps them within reach instead."""
    if torch.compiler.is_exporting():
        return torch.nan_to_num(index).long().clamp(0, count - 1)
    good = (index >= 0) & (index < count) & (index == index.floor())
    if not bool(good.all()):
        wrong = index[~good][0].item()
        msg = f"a box lies in volume {wrong:g}, but the features have {count} (0 to {count - 1})"
        raise ValueError(msg)
    return index.long()
