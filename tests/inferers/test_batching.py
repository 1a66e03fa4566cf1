from __future__ import annotations

import pytest
import torch

from medseg.inferers.batching import window_batch

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("side", "dtype", "device", "wanted"),
    [
        (64, torch.float32, CPU, 2),
        (96, torch.float32, CPU, 2),
        (128, torch.float32, CPU, 1),
        (64, torch.bfloat16, CPU, 2),
        (96, torch.bfloat16, CPU, 1),
        (96, torch.float64, CPU, 1),
        (96, torch.float32, CUDA, 4),
        (16, torch.bfloat16, CUDA, 16),
        (256, torch.float32, CUDA, 1),
    ],
)
def test_windows_at_a_time(side, dtype, device, wanted):
    assert window_batch((side,) * 3, dtype, device) == wanted
