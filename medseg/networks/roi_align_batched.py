"""RoIAlign by batched matrix products: for any device, written for GPUs.

RoIs whose numbers of touched voxels round up to the same three sizes share three products, however different their
boxes are: each takes its own voxels, and what only fills up the size has weight 0. Wide RoIs take the
voxels they touch, not all between. Rounding up wastes arithmetic to save launches, of which a GPU has few to spare.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medseg.networks.roi_align_samples import Samples

SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
CHUNK = 2**25
"""Values of gathered voxels and of results at once (128 MiB in float32): what bounds the memory."""


class _Chunk(NamedTuple):
    rois: Tensor  # (r,) which
    voxels: Tensor  # (r * d * h * w,) rows of the flattened features
    matrices: list[Tensor]  # per axis (r, bins, voxels)


def pool(features: Tensor, batch: Tensor, axes: Sequence[Samples]) -> Tensor:
    """The bins of every RoI.

    Args:
        features: (B, D, H, W, C) contiguous.
        batch: (R,) int64, which volume a RoI lies in.
        axes: the samples along D, H and W.

    Returns:
        (R, Pd, Ph, Pw, C).
    """
    channels = features.shape[-1]
    flat = features.reshape(-1, channels)
    out = features.new_empty(len(batch), *(axis.count for axis in axes), channels)
    for chunk in _chunks(batch, axes, features):
        d, h, w = chunk.matrices
        r, p, nz = d.shape
        q, ny, nx = h.shape[1], h.shape[2], w.shape[2]
        x = torch.bmm(d, flat.index_select(0, chunk.voxels).view(r, nz, -1))
        x = torch.matmul(h[:, None], x.view(r, p, ny, -1))
        x = torch.matmul(w[:, None, None], x.view(r, p, q, nx, channels))
        out.index_copy_(0, chunk.rois, x)
    return out


def spread(grad_out: Tensor, batch: Tensor, axes: Sequence[Samples], grad: Tensor) -> None:
    """Add the adjoint of `pool` to `grad`: (R, Pd, Ph, Pw, C), any strides and dtype, goes back to (B, D, H, W, C)."""
    channels = grad.shape[-1]
    flat = grad.view(-1, channels)
    for chunk in _chunks(batch, axes, grad):
        d, h, w = (m.mT for m in chunk.matrices)
        r, p = d.shape[0], d.shape[2]
        ny, q, nx = h.shape[1], h.shape[2], w.shape[1]
        x = torch.matmul(w[:, None, None], grad_out.index_select(0, chunk.rois).to(grad.dtype))
        x = torch.matmul(h[:, None], x.view(r, p, q, nx * channels))
        x = torch.bmm(d, x.view(r, p, ny * nx * channels)).view(-1, channels)
        if flat.is_cuda:  # sorts the voxels first: always the same order of addition, unlike index_add_
            flat.index_put_((chunk.voxels,), x, accumulate=True)
        else:
            flat.index_add_(0, chunk.voxels, x)


def _chunks(batch: Tensor, axes: Sequence[Samples], features: Tensor) -> Iterator[_Chunk]:
    """RoIs of like sizes together, no more at once than memory allows."""
    device, (D, H, W, C) = batch.device, features.shape[1:]
    orders, counts = zip(*(_touched(axis) for axis in axes), strict=True)
    sizes = torch.tensor(SIZES, device=device)
    rounded = [torch.bucketize(count, sizes) for count in counts]
    keys, member, numbers = torch.unique(torch.stack(rounded, 1), dim=0, return_inverse=True, return_counts=True)
    grouped = torch.argsort(member, stable=True)
    begin = 0
    for key, number in zip(keys.tolist(), numbers.tolist(), strict=True):
        group = grouped[begin : begin + number]
        begin += number
        pads = [min(SIZES[k], axis.size) if k < len(SIZES) else axis.size for k, axis in zip(key, axes, strict=True)]
        bins = [axis.count for axis in axes]
        # The features of the crop, and what is largest on the way to the bins.
        most = max(pads[0] * pads[1] * pads[2], bins[0] * pads[1] * pads[2], bins[0] * bins[1] * max(pads[2], bins[2]))
        for rois in group.split(max(1, CHUNK // (most * max(C, 1)))):
            # A voxel that fills up is one that is touched anyway, so that no value from elsewhere (NaN) comes in.
            real = [
                torch.arange(pad, device=device) < count[rois, None] for count, pad in zip(counts, pads, strict=True)
            ]
            places = [
                torch.where(own, order[rois, : own.shape[1]], order[rois, :1])
                for own, order in zip(real, orders, strict=True)
            ]
            z, y, x = places
            z = (batch[rois, None] * D + z)[:, :, None, None]
            voxels = (z * H + y[:, None, :, None]) * W + x[:, None, None, :]
            matrices = [
                (_matrix(axis[rois], at) * own[:, None, :]).to(features.dtype)
                for axis, at, own in zip(axes, places, real, strict=True)
            ]
            yield _Chunk(rois, voxels.reshape(-1), matrices)


def _touched(samples: Samples) -> tuple[Tensor, Tensor]:
    """(R, size) all voxels of the axis, those that the RoI touches first and rising, and (R,) how many it touches."""
    low, near, far = samples.taps(samples.position.dtype)
    hit = torch.zeros(len(low), samples.size + 1, dtype=torch.uint8, device=low.device)
    for at, weight in ((low, near), (low + 1, far)):
        hit.scatter_(1, torch.where(weight != 0, at, samples.size), 1)
    hit = hit[:, : samples.size]
    return torch.argsort(hit, dim=1, descending=True, stable=True), hit.sum(1)


def _matrix(samples: Samples, voxels: Tensor) -> Tensor:
    """(r, bins, n) weights of n voxels of each RoI."""
    distance = (samples.position[:, :, None] - voxels[:, None, :]).abs()
    hat = (1 - distance).clamp(min=0) * samples.share[:, :, None]
    belongs = samples.bins[:, None, :] == torch.arange(samples.count, device=voxels.device)[:, None]
    return torch.bmm(belongs.double(), hat.double())  # in float64, where no TF32 rounds the weights
