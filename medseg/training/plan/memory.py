"""What a training step takes, estimated before and measured after.

The estimate counts what backpropagation keeps: of every convolution block the input, and what its norms and activations
leave, at two bytes a value under bfloat16 and four else; and of every weight its gradient, Adam's two moments and the moving
average. The measurement runs one step on random numbers and watches the process.
"""

from __future__ import annotations

import threading
from math import prod
from typing import TYPE_CHECKING, Any

import psutil
import torch

from medseg.inferers.precision import has_native_bf16
from medseg.training.precision import MixedPrecisionInferer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from medseg.training.plan.topology import Topology

#: Values kept per output value of a block of two convolutions (two convolutions, norms and activations), fitted to
#: measured steps of U-Nets with 16 to 32 channels on patches of 40 to 96 voxels.
KEPT = 6.0
#: Copies of the logits in float32: they themselves, softmax, one-hot labels, gradients.
_LOGITS = 5.0
#: Bytes for a weight: itself, gradient, two moments, moving average.
_WEIGHT = 20
#: What Python, torch and MONAI take before anything is computed.
PROCESS = 1.0e9
#: Share of the budget that one step may take; the rest is for cached cases and validation.
STEP_SHARE = 0.6


def step_bytes(topology: Topology, patch: Sequence[int], batch: int, channels: int, outputs: int) -> float:
    """Bytes that one training step is expected to take, beyond the process itself.

    Args:
        topology: of the U-Net.
        patch: voxels.
        batch: patches at a time.
        channels: of the image.
        outputs: channels of the logits.
    """
    size = [float(n) for n in patch]
    kept = weights = 0.0
    before = channels
    finest = prod(size)
    for features, stride, kernel in zip(topology.features, topology.strides, topology.kernels, strict=True):
        size = [n / s for n, s in zip(size, stride, strict=True)]
        last = stride == topology.strides[-1] and features == topology.features[-1]
        blocks = 1.0 if last else 2.5  # on the way up once more, with what was skipped beside it
        kept += KEPT * features * prod(size) * blocks
        weights += prod(kernel) * features * (before + features) * (1.0 if last else 2.5)
        before = features
    logits = _LOGITS * 4 * outputs * finest
    value = 2 if has_native_bf16(torch.device("cuda" if torch.cuda.is_available() else "cpu")) else 4
    return batch * (value * kept + logits) + _WEIGHT * weights


def measured_step_bytes(network: torch.nn.Module, loss: Callable[..., torch.Tensor], batch: Any, target: Any) -> float:
    """Bytes by which one training step raises the process's memory (on a GPU: what torch holds at most).

    Args:
        network: in training mode afterwards.
        loss: called with the network's output and `target`.
        batch: (B, C, D, H, W).
        target: as the loss takes it.
    """
    network.train()
    inferer = MixedPrecisionInferer()
    process = psutil.Process()
    before = process.memory_info().rss
    most = [before]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            most[0] = max(most[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        loss(inferer(batch, network), target).backward()
    finally:
        most[0] = max(most[0], process.memory_info().rss)
        done.set()
        watcher.join()
        network.zero_grad(set_to_none=True)
    moments = 3 * 4 * sum(weight.numel() for weight in network.parameters())  # Adam's two and the moving average
    return most[0] - before + moments


def read_size(text: str) -> float:
    """'8GB', '7.5 GiB', '900MB' or a number of GB -> bytes.

    Raises:
        ValueError: it is none of these, or not above 0.
    """
    units = {"gib": 2.0**30, "mib": 2.0**20, "gb": 1e9, "mb": 1e6, "g": 1e9, "m": 1e6, "": 1e9}
    word = text.strip().casefold()
    number = word.rstrip("gibm ")
    value = float(number) * units[word[len(number) :].strip()]
    if not 0 < value < float("inf"):
        raise ValueError(text)
    return value
