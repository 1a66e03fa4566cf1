"""Mixed precision on any device: MONAI's `amp` runs `torch.autocast("cuda")` also when it trains on a CPU."""

from __future__ import annotations

import torch
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor, nn

from medseg.inferers.precision import has_native_bf16


class MixedPrecisionInferer(Inferer):
    """Runs the network under bfloat16 autocast where the device has it, and returns float32.

    bfloat16 has float32's range, so no gradient scaling is needed.

    Args:
        inferer: what calls the network; the network alone when None.
        channels_last: lay the input out channels-last, which convolutions on CPUs and tensor cores prefer.
    """

    def __init__(self, inferer: Inferer | None = None, *, channels_last: bool = True) -> None:
        super().__init__()
        self.inferer = inferer or SimpleInferer()
        self.channels_last = channels_last

    def __call__(self, inputs: Tensor, network: nn.Module, *args, **kwargs):
        """(B, C, D, H, W) -> the network's output, its tensors and lists of tensors in float32."""
        if self.channels_last:
            inputs = inputs.to(memory_format=torch.channels_last_3d)
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=has_native_bf16(inputs.device)):
            return _float32(self.inferer(inputs, network, *args, **kwargs))


def _float32(output):
    if isinstance(output, Tensor):
        return output.float()
    return [_float32(o) for o in output] if isinstance(output, list | tuple) else output
