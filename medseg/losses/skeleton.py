"""The soft skeleton of clDice (Shit et al., CVPR 2021): what erosion takes away and opening does not bring back.

Values are MONAI 1.6.1's `soft_skel`, bit for bit; so is the gradient wherever no two neighbours are equal. MONAI's
takes 3 x 3 x 3 pooling, which on a CPU is slow and keeps an int64 a voxel, and computes every erosion but one twice.
Here each erosion is computed once, on a CPU by `skeleton_kernel`. Elsewhere neighbours are compared axis by axis: the
largest of three in a row is the larger of two pairs, so a pass is two comparisons of whole tensors and keeps two bytes a
voxel.

Worked example, the row 1 5 2 4: pairs 5 5 4; the largest of three 5 5 5 4, where at the ends two are compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from medseg.losses import skeleton_kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    Bits = tuple[Tensor, Tensor]


def soft_skeleton(probs: Tensor, iterations: int) -> Tensor:
    """(B, C, ...) probabilities -> (B, C, ...) how much each voxel is on the skeleton.

    Args:
        probs: of any number of space axes.
        iterations: erosions; at least the largest radius of what is to become thin, in voxels.
    """
    probs = probs.contiguous()
    eroded = erode(probs)
    skeleton = torch.relu(probs - dilate(eroded))
    for _ in range(iterations):
        probs, eroded = eroded, erode(eroded)
        ridge = torch.relu(probs - dilate(eroded))
        skeleton = skeleton + torch.relu(ridge - skeleton * ridge)
    return skeleton


def erode(x: Tensor) -> Tensor:
    """The smallest of each voxel of (B, C, ...) and its neighbours across faces."""
    if compiled(x):
        return _Compiled.apply(x, skeleton_kernel.erode, skeleton_kernel.erode_back)  # type: ignore[return-value]
    return _Erode.apply(x)  # type: ignore[return-value]


def dilate(x: Tensor) -> Tensor:
    """The largest of each voxel's 3 x 3 x 3 block (3 x 3 of images)."""
    if compiled(x):
        return _Compiled.apply(x, skeleton_kernel.dilate, skeleton_kernel.dilate_back)  # type: ignore[return-value]
    return _Dilate.apply(x)  # type: ignore[return-value]


def compiled(x: Tensor) -> bool:
    """Whether the kernels of a CPU can have it; else torch's operations on any device do the same."""
    return x.device.type == "cpu" and x.dtype in {torch.float32, torch.float64} and x.ndim in {4, 5} and x.numel() > 0


class _Compiled(Function):
    """Erosion or dilation by `skeleton_kernel`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, run: Callable, back: Callable) -> Tensor:
        # One plane for images; cases and channels are alike.
        stacked = x.detach().contiguous().view(-1, *(1,) * (5 - x.ndim), *x.shape[2:]).numpy()
        out, chosen = run(stacked, torch.get_num_threads())
        ctx.chosen, ctx.back = chosen if ctx.needs_input_grad[0] else None, back
        return torch.from_numpy(out).view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        stacked = grad.contiguous().view(ctx.chosen.shape).numpy()
        out = ctx.back(stacked, ctx.chosen, torch.get_num_threads())
        return torch.from_numpy(out).view(grad.shape), None, None


class _Dilate(Function):
    """The largest of each voxel's 3 x 3 x 3 block."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.bits = []
        for axis in range(2, x.ndim):
            x, bits = _three(x, axis, torch.maximum, torch.ge)
            ctx.bits.append(bits)
        if not ctx.needs_input_grad[0]:
            del ctx.bits
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        for axis in reversed(range(2, grad.ndim)):
            grad = _three_back(grad, axis, ctx.bits[axis - 2])
        return grad


class _Erode(Function):
    """The smallest of each voxel and its neighbours across faces."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out, bits = _three(x, 2, torch.minimum, torch.le)
        ctx.bits, ctx.before = [bits], []
        for axis in range(3, x.ndim):
            row, bits = _three(x, axis, torch.minimum, torch.le)
            ctx.bits.append(bits)
            ctx.before.append(out <= row)  # the axes before held what is smallest
            out = torch.minimum(out, row)
        if not ctx.needs_input_grad[0]:
            del ctx.bits, ctx.before
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        total = None
        for axis in reversed(range(3, grad.ndim)):
            kept = grad * ctx.before[axis - 3]
            part = _three_back(grad - kept, axis, ctx.bits[axis - 2])
            total = part if total is None else total.add_(part)
            grad = kept
        part = _three_back(grad, 2, ctx.bits[0])
        return part if total is None else total.add_(part)


def _three(x: Tensor, axis: int, best: Callable, first: Callable) -> tuple[Tensor, Bits]:
    """The best of three in a row along an axis, and which it was: of each pair, then of each two pairs, the first."""
    n = x.shape[axis]
    if n == 1:
        return x, (x.new_empty(0), x.new_empty(0))
    low, high = x.narrow(axis, 0, n - 1), x.narrow(axis, 1, n - 1)
    pairs, of_pair = best(low, high), first(low, high)
    left, right = pairs.narrow(axis, 0, n - 2), pairs.narrow(axis, 1, n - 2)
    out = torch.empty_like(x)
    out.narrow(axis, 0, 1).copy_(pairs.narrow(axis, 0, 1))
    out.narrow(axis, n - 1, 1).copy_(pairs.narrow(axis, n - 2, 1))
    best(left, right, out=out.narrow(axis, 1, n - 2))
    return out, (of_pair, first(left, right))


def _three_back(grad: Tensor, axis: int, bits: Bits) -> Tensor:
    of_pair, of_two = bits
    n = grad.shape[axis]
    if n == 1:
        return grad
    pairs = _two_back(grad.narrow(axis, 1, n - 2), axis, of_two)
    pairs.narrow(axis, 0, 1).add_(grad.narrow(axis, 0, 1))
    pairs.narrow(axis, n - 2, 1).add_(grad.narrow(axis, n - 1, 1))
    return _two_back(pairs, axis, of_pair)


def _two_back(grad: Tensor, axis: int, first: Tensor) -> Tensor:
    """The gradient of the better of two neighbours (n - 1 along the axis) to both (n): to the first where `first`."""
    n = grad.shape[axis] + 1
    to_first = grad * first
    out = grad.new_zeros(*grad.shape[:axis], n, *grad.shape[axis + 1 :])
    out.narrow(axis, 0, n - 1).copy_(to_first)
    out.narrow(axis, 1, n - 1).add_(grad - to_first)
    return out
