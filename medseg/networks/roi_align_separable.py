"""The exact separable RoIAlign with a backward of its own.

Sampling and averaging along one axis is a linear map of that axis, so RoIAlign in 3D is three of them: no sample point
is ever made, and the samples a bin cost nothing. The backward applies the transposed maps and adds into one gradient
(autograd through crops would make a gradient of full size for each RoI). It adds in a fixed order: deterministic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medseg.networks import roi_align_batched as batched

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medseg.networks.roi_align_kernel import Taps
    from medseg.networks.roi_align_samples import Samples

CHUNK = 2**22
"""Values of the output that are converted at once, where dtype or memory order ask for it (16 MiB in float32)."""


def pool(features: Tensor, batch: Tensor, axes: Sequence[Samples]) -> Tensor:
    """(B, C, D, H, W) -> (R, C, Pd, Ph, Pw) of the same dtype, channels last in memory; differentiable."""
    return _Separable.apply(features, batch, tuple(axes))  # pyright: ignore[reportReturnType]


class _Separable(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features: Tensor, batch: Tensor, axes: tuple[Samples, ...]) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.axes, ctx.batch = axes, batch
        ctx.shape, ctx.dtype = features.shape, features.dtype
        compute = torch.promote_types(features.dtype, torch.float32)
        with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
            if features.device.type == "cpu":
                out = _pool_on_cpu(features, batch, axes, compute)
            else:
                last = features.permute(0, 2, 3, 4, 1).to(compute).contiguous()
                out = batched.pool(last, batch, axes).to(features.dtype)
        return out.permute(0, 4, 1, 2, 3)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_out: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        volumes, channels, *space = ctx.shape
        compute = torch.promote_types(ctx.dtype, torch.float32)
        grad = torch.zeros(volumes, *space, channels, dtype=compute, device=grad_out.device)
        with torch.autocast(grad_out.device.type, enabled=False):
            if grad_out.device.type == "cpu":
                _spread_on_cpu(grad_out, ctx.batch, ctx.axes, grad)
            else:
                batched.spread(grad_out.permute(0, 2, 3, 4, 1), ctx.batch, ctx.axes, grad)
        return grad.permute(0, 4, 1, 2, 3).to(ctx.dtype), None, None


def _pool_on_cpu(features: Tensor, batch: Tensor, axes: Sequence[Samples], compute: torch.dtype) -> Tensor:
    from medseg.networks import roi_align_kernel as kernel  # numba loads when it is needed

    out = features.new_empty(len(batch), *(axis.count for axis in axes), features.shape[1])
    if out.numel() == 0:
        return out
    threads, direct = torch.get_num_threads(), out.dtype == compute
    first = features.is_contiguous() and _touched(axes) < features[:, 0].numel()
    source = features.detach().to(compute) if first else _last(features, compute)
    for a, b in [(0, len(batch))] if direct else _parts(out):
        part = out[a:b] if direct else out[a:b].to(compute)
        taps = [_taps(axis[a:b], compute) for axis in axes]
        kernel.pool(source.numpy(), batch[a:b].numpy(), taps, part.numpy(), channels_first=first, threads=threads)
        if not direct:
            out[a:b] = part
    return out


def _spread_on_cpu(grad_out: Tensor, batch: Tensor, axes: Sequence[Samples], grad: Tensor) -> None:
    from medseg.networks import roi_align_kernel as kernel

    if grad_out.numel() == 0:
        return
    threads = torch.get_num_threads()
    direct = grad_out.dtype == grad.dtype and grad_out.permute(0, 2, 3, 4, 1).is_contiguous()
    for a, b in [(0, len(batch))] if direct else _parts(grad_out):
        part = _last(grad_out[a:b], grad.dtype).numpy()
        taps = [_taps(axis[a:b], grad.dtype) for axis in axes]
        kernel.spread(part, batch[a:b].numpy(), taps, grad.numpy(), threads)


def _touched(axes: Sequence[Samples]) -> float:
    """How many voxels the RoIs read, at most: each as often as a RoI reads it."""
    spans = []
    for axis in axes:
        used = axis.share != 0
        first = torch.where(used, axis.position, torch.inf).amin(1).floor()
        last = torch.where(used, axis.position, -torch.inf).amax(1).ceil()
        spans.append((last - first + 1).clamp(0, 2 * axis.position.shape[1]))
    return float((spans[0] * spans[1] * spans[2]).sum())


def _parts(rois: Tensor) -> Iterator[tuple[int, int]]:
    step = max(1, CHUNK // rois[0].numel())
    return ((a, min(a + step, len(rois))) for a in range(0, len(rois), step))


def _taps(axis: Samples, dtype: torch.dtype) -> Taps:
    low, near, far = axis.taps(dtype)
    return low.numpy(), near.numpy(), far.numpy(), axis.bins.contiguous().numpy()


def _last(x: Tensor, dtype: torch.dtype) -> Tensor:
    """(N, C, D, H, W) -> (N, D, H, W, C), contiguous; no copy where it lies so."""
    from medseg.networks.roi_align_kernel import channels_last

    x = x.detach().to(dtype)
    last = x.permute(0, 2, 3, 4, 1)
    if last.is_contiguous() or not x.is_contiguous():
        return last.contiguous()
    out = torch.empty(last.shape, dtype=dtype)
    n, c = x.shape[:2]
    channels_last(x.view(n, c, -1).numpy(), out.view(n, -1, c).numpy(), torch.get_num_threads())
    return out
