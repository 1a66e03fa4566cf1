"""The pyramid: shapes, and that every level hears of the coarser ones and of no finer one."""

from __future__ import annotations

import torch

from medseg.networks.fpn import FPN, upsample


def test_information_flows_from_coarse_to_fine():
    torch.manual_seed(0)
    fpn = FPN((4, 6, 8), 16)
    levels = [torch.randn(2, n, s, s, s // 2) for n, s in ((4, 16), (6, 8), (8, 4))]
    out = fpn(levels)
    assert [tuple(o.shape) for o in out] == [(2, 16, 16, 16, 8), (2, 16, 8, 8, 4), (2, 16, 4, 4, 2)]
    for changed in range(3):
        moved = [level + (i == changed) for i, level in enumerate(levels)]
        differs = [not torch.equal(a, b) for a, b in zip(out, fpn(moved), strict=True)]
        assert differs == [i <= changed for i in range(3)]


def test_upsampling_keeps_voxel_edges():
    """A ramp over voxel centres stays the same ramp in world coordinates, away from the border."""
    coarse = ((torch.arange(8) + 0.5) * 2).reshape(1, 1, 8, 1, 1)
    fine = upsample(coarse, torch.zeros(1, 1, 16, 1, 1)).flatten()
    torch.testing.assert_close(fine[1:-1], torch.arange(16)[1:-1] + 0.5)
