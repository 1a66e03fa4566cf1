"""The convolutions of a lone window by oneDNN, where torch sends them to im2col.

For an fp32 batch of 1 torch computes a 3D convolution whose C x D x H is 20480 or less by the kernel `slow_conv3d`, and
everything else by oneDNN (`use_mkldnn` in ATen/native/Convolution.cpp). Which layers these are depends on the network:
all of the deep ones and the first. They are handed to oneDNN here, as torch itself does with 2 windows; the same
products are summed, in another order.

Measured on a Zen 4 core, CPU ms a lone window of 32^3, 48x64x48 and 64^3, as torch does / doubled / so: MONAI's UNet of
16..256 channels 24 / 24 / 15, 113 / 79 / 44, 261 / 151 / 74; medseg's of 16..96 channels 173 / 97 / 47, 247 / 517 / 235,
453 / 1124 / 419.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Sequence

# Input elements along N, C, D and H up to which torch takes im2col; kernels along the last two axes, too.
IM2COL_UP_TO, IM2COL_KERNEL = 20480, 3


class LoneWindow(TorchFunctionMode):
    """While it is active, 3D convolutions of one fp32 volume on the CPU are computed by oneDNN.

    Attributes:
        count: how many were.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """See `torch.overrides.TorchFunctionMode`."""
        del types
        if func is torch.conv3d and (result := _by_onednn(*args, **(kwargs or {}))) is not None:
            self.count += 1
            return result
        return func(*args, **(kwargs or {}))


def _by_onednn(
    input: Tensor,  # noqa: A002 -- the names in torch
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    """The convolution; None where torch takes oneDNN by itself, or something else is better or needed."""
    plain = type(input) is Tensor and type(weight) in (Tensor, nn.Parameter)  # not of a class with ways of its own
    fp32 = plain and input.dtype == weight.dtype == torch.float32 and input.device.type == "cpu"
    if not fp32 or input.ndim != 5 or isinstance(padding, str) or groups != 1 or not input.numel():
        return None
    small = input.shape[0] == 1 and prod(input.shape[:4]) <= IM2COL_UP_TO
    kernel = weight.shape[2:]
    by_torch = not small or min(kernel[1:]) > IM2COL_KERNEL or max(kernel) == 1  # 1x1x1 is a matrix product
    if by_torch or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or not torch.backends.mkldnn.enabled:
        return None
    how = _three(padding), _three(stride), _three(dilation)
    return torch.ops.aten.mkldnn_convolution(input, weight, bias, *how, groups)


def _three(value: int | Sequence[int]) -> list[int]:
    values = [value] if isinstance(value, int) else [int(v) for v in value]
    return values * 3 if len(values) == 1 else values
