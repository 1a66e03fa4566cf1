"""Mixed precision on any device: MONAI's `amp` runs `torch.autocast("cuda")` also when it trains on a CPU."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

import torch
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor, nn

from medseg.inferers.precision import has_native_bf16


class MixedPrecisionInferer(Inferer):
    """Runs the network under bfloat16 autocast where the device has it, and returns float32.

    bfloat16 has float32's range, so no gradient scaling is needed. Convolutions over maps of one or two planes stay in
    float32 while they learn on a CPU, see `exact_in_thin_maps`.

    Args:
        inferer: what calls the network; the network alone when None.
        channels_last: lay the input out channels-last, which convolutions on CPUs and tensor cores prefer.
    """

    def __init__(self, inferer: Inferer | None = None, *, channels_last: bool = True) -> None:
        super().__init__()
        self.inferer = inferer or SimpleInferer()
        self.channels_last = channels_last
        self._watched: WeakSet[nn.Module] = WeakSet()

    def __call__(self, inputs: Tensor, network: nn.Module, *args, **kwargs):
        """(B, C, D, H, W) -> the network's output, its tensors and lists of tensors in float32."""
        if self.channels_last:
            inputs = inputs.to(memory_format=torch.channels_last_3d)
        if inputs.device.type == "cpu" and torch.is_grad_enabled() and network not in self._watched:
            exact_in_thin_maps(network)
            self._watched.add(network)
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=has_native_bf16(inputs.device)):
            return _float32(self.inferer(inputs, network, *args, **kwargs))


def exact_in_thin_maps(network: nn.Module) -> None:
    """Let convolutions learn in float32 over maps of one or two planes, under bfloat16 autocast on a CPU.

    There the gradient of a kernel (torch 2.13 with oneDNN and AVX512-BF16) is wrong: it holds memory that nobody wrote,
    other numbers at each call and now and then NaN. Seen with kernels 3x3x3 and 3x1x1 over (2, n, n) for every n, and with
    a stride of (1, 2, 2) over (3, 1, 5) and (1, 8, 8); never where every axis has three voxels or more. Such maps are
    small, so float32 costs next to nothing.

    Args:
        network: hooks are put on its convolutions; weights and their names stay.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            suspended: list[bool] = []
            module.register_forward_pre_hook(lambda _, args, held=suspended: _suspend(args, held))  # type: ignore[arg-type]
            module.register_forward_hook(lambda *_, held=suspended: _go_on(held), always_call=True)


def _suspend(args: tuple[Any, ...], held: list[bool]) -> tuple[Any, ...] | None:
    inputs = args[0]
    thin = inputs.device.type == "cpu" and inputs.ndim == 5 and min(inputs.shape[2:]) <= 2
    held.append(thin and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu"))
    if not held[-1]:
        return None
    torch.set_autocast_enabled("cpu", False)
    return (inputs.float(), *args[1:])


def _go_on(held: list[bool]) -> None:
    if held and held.pop():
        torch.set_autocast_enabled("cpu", True)


def _float32(output):
    if isinstance(output, Tensor):
        return output.float()
    return [_float32(o) for o in output] if isinstance(output, list | tuple) else output
