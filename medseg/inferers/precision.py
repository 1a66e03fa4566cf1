"""bf16 where it is native and the labels agree, fp32 elsewhere.

bf16 halves the traffic and, on CPUs with AVX512-BF16 or AMX and on recent GPUs, multiplies the arithmetic; its 8 bits
of mantissa move a voxel to another class where two classes are nearly equal. How often depends on the network and the
image, so it is tried: the windows of this volume with the largest contrast are computed both ways.

The rule of `precision="auto"`: bf16 if the device has it, the network is a module with fp32 weights, the volume has at
least MIN_WINDOWS windows (the check costs CHECKED_WINDOWS in fp32; on fewer it would cost more than it gains), at
least MIN_AGREEMENT of all voxels agree, and of the voxels that either calls foreground at least MIN_FOREGROUND: a
small structure in much background must not be traded for speed. An exported network (engine.py) computes in fp32 whatever
is asked for.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from medseg.inferers.engine import engine_of
from medseg.inferers.memory import Event, is_out_of_memory
from medseg.inferers.outputs import full_resolution
from medseg.inferers.rewrite import fill_lanes
from medseg.inferers.sinks import largest_class, painted_regions
from medseg.inferers.stream import gather

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.inferers.windows import WindowGrid

# Runs a network on windows with the arguments that the caller of the inferer gave.
Call = Callable[[Callable[..., Any], Tensor], object]

MIN_WINDOWS = 8
CHECKED_WINDOWS = 2
MIN_AGREEMENT = 0.999
MIN_FOREGROUND = 0.99


class Chosen(NamedTuple):
    """What computes the windows: the network or a copy of it, the dtype of its windows, and whether under autocast."""

    network: Callable[..., Any]
    dtype: torch.dtype
    autocast: bool = False


class Agreement(NamedTuple):
    """Shares of voxels, in [0, 1], to which two precisions give the same label."""

    voxels: float
    foreground: float

    @property
    def suffices(self) -> bool:
        """True where bf16 may be used."""
        return self.voxels >= MIN_AGREEMENT and self.foreground >= MIN_FOREGROUND


def choose_precision(
    precision: str,
    image: Tensor,
    grid: WindowGrid,
    network: Callable[..., Any],
    call: Call,
    *,
    device: torch.device,
    regions: Sequence[int] | None,
) -> tuple[Chosen, Event | None]:
    """Decide in what precision a volume is computed.

    Args:
        precision: "fp32" (the network as it is), "bf16" (a bf16 copy; bf16 autocast around a function, which cannot
            be copied) or "auto" (the rule of this file).
        image: (B, C, *grid.padded).
        grid: the windows.
        network: module or function.
        call: runs it on windows.
        device: that the network is on.
        regions: label values of sigmoid channels; None for classes.

    Returns:
        What to compute with, and the event to report where the labels were compared.
    """
    own = Chosen(network, network_dtype(network))
    if (engine := engine_of(network)) is not None:
        return own, Event("MS-M213", f"computed by {engine.version} in fp32")
    if precision == "fp32":
        return own, None
    if precision == "bf16":
        if isinstance(network, nn.Module):
            return Chosen(bf16_replica(network), torch.bfloat16), None
        return own._replace(autocast=True), None
    work = [(item, start) for item in range(image.shape[0]) for start in grid.positions()]
    if own.dtype != torch.float32 or len(work) < MIN_WINDOWS or not has_native_bf16(device):
        return own, None
    if not isinstance(network, nn.Module):
        return own, None

    def cut(index: int, dtype: torch.dtype) -> Tensor:
        return gather(image, [work[index]], grid.roi, device, dtype)

    def forward(module: nn.Module, index: int) -> Tensor:
        window = cut(index, network_dtype(module))
        return full_resolution(call(module, window), window)[0]

    checked = most_contrast(lambda index: cut(index, torch.float32)[0], len(work))
    half, said = bf16_or_reason(network, forward, checked, regions)
    if half is None:
        return own, Event("MS-M212", f"computed in fp32: {said}")
    return Chosen(half, torch.bfloat16), Event("MS-M211", f"computed in bf16: {said}")


def has_native_bf16(device: torch.device) -> bool:
    """True where bf16 arithmetic is done in hardware, not emulated."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if not hasattr(torch.cpu, "get_capabilities"):  # torch 2.10 may not have it
        return torch.cpu._is_avx512_bf16_supported()
    return any(torch.cpu.get_capabilities().get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def network_dtype(network: object) -> torch.dtype:
    """The dtype of a module's first floating weight; float32 for anything else."""
    if isinstance(network, nn.Module):
        for weight in network.parameters():
            if weight.is_floating_point():
                return weight.dtype
    return torch.float32


def network_device(network: object, default: torch.device) -> torch.device:
    """The device of a module's first weight; `default` for anything without weights."""
    if isinstance(network, nn.Module):
        for weight in network.parameters():
            return weight.device
    return default


def replica(network: nn.Module, *, dtype: torch.dtype | None = None, device: torch.device | None = None) -> nn.Module:
    """A copy of a network in another precision or on another device; the network itself is not touched.

    Weights are converted one by one while copying, so no second copy in the old precision or on the old device exists
    at any time.
    """

    def convert(tensor: Tensor) -> Tensor:
        return tensor.detach().to(device=device, dtype=dtype if tensor.is_floating_point() else None, copy=True)

    memo: dict[int, object] = {}
    for weight in network.parameters():
        memo[id(weight)] = nn.Parameter(convert(weight), requires_grad=False)
    for buffer in network.buffers():
        memo[id(buffer)] = convert(buffer)
    return copy.deepcopy(network, memo)


def bf16_replica(network: nn.Module) -> nn.Module:
    """A bf16 copy of a network that, on a CPU, computes its last layers in blocks (rewrite.py)."""
    copied = replica(network, dtype=torch.bfloat16)
    if network_device(copied, torch.device("cpu")).type == "cpu":
        fill_lanes(copied)
    return copied


def most_contrast(windows: Callable[[int], Tensor], count: int, wanted: int = CHECKED_WINDOWS) -> list[int]:
    """Indices of the `wanted` windows with the largest standard deviation, on every fourth voxel per axis.

    Args:
        windows: gives the window (C, *roi) of an index.
        count: of all windows.
        wanted: how many to choose.
    """

    def contrast(index: int) -> float:
        window = windows(index)
        return float(window[(slice(None), *[slice(None, None, 4)] * (window.ndim - 1))].float().std(correction=0))

    return sorted(range(count), key=lambda index: (-contrast(index), index))[:wanted]


def agreement(first: Tensor, second: Tensor, regions: Sequence[int] | None) -> Agreement:
    """How far the labels of two outputs (K, *roi) of one window agree."""
    a, b = (labels_of(output.float(), regions) for output in (first, second))
    same = a == b
    either = (a > 0) | (b > 0)
    foreground = int(either.sum())
    return Agreement(
        int(same.sum()) / max(same.numel(), 1), 1.0 if not foreground else int((same & either).sum()) / foreground
    )


def bf16_or_reason(
    network: nn.Module,
    forward: Callable[[nn.Module, int], Tensor],
    checked: Sequence[int],
    regions: Sequence[int] | None,
) -> tuple[nn.Module | None, str]:
    """A bf16 copy of the network if its labels agree on the checked windows, and the finding in words.

    Args:
        network: as given by the caller.
        forward: runs a network on the window of an index and returns (K, *roi).
        checked: indices of the windows to compute both ways.
        regions: label values of sigmoid channels; None for classes.
    """
    try:
        candidate = bf16_replica(network)
        found = [agreement(forward(network, i), forward(candidate, i), regions) for i in checked]
    except (RuntimeError, TypeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        return None, f"the network cannot be run in bf16 ({str(error).splitlines()[0]})"
    worst = Agreement(min(f.voxels for f in found), min(f.foreground for f in found))
    said = (
        f"bf16 and fp32 labels agree on {worst.voxels:.3%} of voxels and {worst.foreground:.2%} of the foreground in "
        f"the worse of {len(found)} windows (wanted: {MIN_AGREEMENT:.1%} and {MIN_FOREGROUND:.0%})"
    )
    return (candidate if worst.suffices else None), said


def labels_of(scores: Tensor, regions: Sequence[int] | None) -> Tensor:
    """The labels (*roi) of one output (K, *roi): its largest class, or its regions painted."""
    if regions is not None:
        return painted_regions(scores, regions)
    return largest_class(scores) if scores.shape[0] > 1 else painted_regions(scores, (1,))
