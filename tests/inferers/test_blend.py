"""Oracle: the same sums in a full volume, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map
from scipy.ndimage import gaussian_filter

from medseg.inferers.blend import RingAccumulator, importance
from medseg.inferers.windows import window_grid


class Recorder:
    """A sink that keeps copies, and how often each voxel was written."""

    def __init__(self, items: int, classes: int, shape: tuple[int, ...], *, needs_mean: bool) -> None:
        self.needs_mean = needs_mean
        self.kept = torch.full((items, classes, *shape), torch.nan)
        self.writes = torch.zeros((items, *shape), dtype=torch.int)

    def write(self, item, where, slab):
        self.kept[(item, slice(None), *where)] = slab
        self.writes[(item, *where)] += 1
        slab.fill_(1e9)  # a sink may use the slab as it likes


def brute_force(grid, weight, outputs, *, mean):
    sums = torch.zeros(outputs[0].shape[0], *grid.padded, dtype=torch.float64)
    weights = torch.zeros(grid.padded, dtype=torch.float64)
    for start, output in zip(grid.positions(), outputs, strict=True):
        box = tuple(slice(s, s + r) for s, r in zip(start, grid.roi, strict=True))
        sums[(slice(None), *box)] += output.double() * weight.double()
        weights[box] += weight.double()
    inner = tuple(slice(before, before + n) for n, (before, _) in zip(grid.image, grid.pad, strict=True))
    return (sums / weights if mean else sums)[(slice(None), *inner)]


@settings(max_examples=25)
@given(
    st.tuples(*[st.integers(1, 24)] * 3),
    st.tuples(*[st.integers(5, 12)] * 3),
    st.sampled_from([0.0, 0.25, 0.6]),
    st.booleans(),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float16, torch.float64]),
)
def test_ring_equals_a_full_volume(shape, roi, overlap, needs_mean, dtype):
    grid = window_grid(shape, roi, overlap)
    weight = importance(grid.roi, "gaussian", torch.device("cpu"))
    sink = Recorder(2, 2, shape, needs_mean=needs_mean)
    ring = RingAccumulator(grid, weight, 2, sink)
    generator = torch.Generator().manual_seed(0)
    for item in range(2):
        outputs = [torch.randn((2, *grid.roi), generator=generator).to(dtype) for _ in grid.positions()]
        before = [output.clone() for output in outputs]
        for start, output in zip(grid.positions(), outputs, strict=True):
            ring.add(item, start, output)
        assert all(torch.equal(a, b) for a, b in zip(outputs, before, strict=True))
        ring.close()
        wanted = brute_force(grid, weight, outputs, mean=needs_mean)
        torch.testing.assert_close(sink.kept[item].double(), wanted, rtol=1e-5, atol=1e-5)
    assert (sink.writes == 1).all()  # each voxel once


def test_the_ring_is_one_window_thick():
    grid = window_grid((300, 20, 20), 16, 0.5)
    ring = RingAccumulator(
        grid, importance(grid.roi, "gaussian", torch.device("cpu")), 4, Recorder(1, 4, (300, 20, 20), needs_mean=True)
    )
    assert ring.sums.shape == (4, 16, 20, 20)
    assert ring.weights is not None
    assert ring.weights.shape == (16, 20, 20)


def test_labels_need_no_sum_of_weights():
    grid = window_grid((30, 20, 20), 16, 0.5)
    weight = importance(grid.roi, "gaussian", torch.device("cpu"))
    assert RingAccumulator(grid, weight, 4, Recorder(1, 4, (30, 20, 20), needs_mean=False)).weights is None


@pytest.mark.parametrize("mode", ["gaussian", "constant"])
def test_weights_are_monais_own(mode):
    assert torch.equal(
        importance((9, 16, 21), mode, torch.device("cpu")), compute_importance_map((9, 16, 21), mode=mode)
    )


def test_nnunets_weights():
    """Its compute_gaussian, written out: sigma of an eighth, voxel n // 2, in half precision, without zeros."""
    spot = np.zeros((64, 8, 9))
    spot[32, 4, 4] = 1
    want = gaussian_filter(spot, [8, 1, 9 / 8], 0, mode="constant", cval=0)
    want = (want / (want.max() / 10)).astype(np.float16)
    want[want == 0] = want[want > 0].min()
    got = importance((64, 8, 9), "nnunet", torch.device("cpu"))
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), want.astype(np.float32), rtol=1e-3)
    assert got.max() == 10
    assert got.min() > 0
