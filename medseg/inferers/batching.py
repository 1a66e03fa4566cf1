"""How many windows at a time, by rule: the same on every run, so that results are the same too.

Measured on a Zen 4 core with a 3D U-Net (CPU ms a window, batch 1 / 2): fp32 48x64x48 105 / 35, 64^3 246 / 72, 96^3
345 / 292, 128^3 620 / 753; bf16 64^3 36 / 33, 96^3 110 / 123. With batch 1 torch sends fp32 convolutions whose
N x C x D x H is small (20480 in its source) to the im2col kernel `slow_conv3d`; batch 2 always goes to oneDNN, and a
lone window with lone.py. Above 100^3 the second window costs more in cache misses than it saves.
"""

from __future__ import annotations

from math import prod

import torch

# Two windows at a time pay up to these sizes.
PAIRED_UP_TO = {torch.float32: 100**3, torch.bfloat16: 64**3}

# Voxels that keep a GPU busy.
GPU_VOXELS = 4 * 96**3
GPU_WINDOWS = 16


def window_batch(roi: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> int:
    """Windows at a time for a window shape, a dtype to compute in and a device."""
    voxels = prod(roi)
    if device.type == "cpu":
        return 2 if voxels <= PAIRED_UP_TO.get(dtype, 0) else 1
    return max(1, min(GPU_WINDOWS, GPU_VOXELS // voxels))
