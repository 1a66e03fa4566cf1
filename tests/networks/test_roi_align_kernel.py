"""The compiled kernel: threads, memory order, and the sparse matrices it reads."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medseg.networks import roi_align_kernel as kernel
from medseg.networks.roi_align_samples import sample_axis

SHAPE, BINS = (7, 8, 30), (2, 3, 2)


def case(rois=20, channels=3):
    rng = np.random.default_rng(0)
    low = rng.uniform(-2, 6, (rois, 3))
    high = low + rng.uniform(0, 5, (rois, 3)) * rng.choice([1, 8], (rois, 1))
    axes = []
    for a in range(3):
        s = sample_axis(torch.from_numpy(low[:, a]), torch.from_numpy(high[:, a]), 1.0, SHAPE[a], BINS[a], 1)
        axes.append(tuple(t.contiguous().numpy() for t in (*s.taps(torch.float64), s.bins)))
    features = rng.standard_normal((2, *SHAPE, channels))
    return features, rng.integers(0, 2, rois), axes, rng.standard_normal((rois, *BINS, channels))


def dense(axes, a, rois):
    low, near, far, bins = axes[a]
    m = np.zeros((rois, BINS[a], SHAPE[a] + 1))
    for r in range(rois):
        for k in range(low.shape[1]):
            m[r, bins[r, k], low[r, k]] += near[r, k]
            m[r, bins[r, k], low[r, k] + 1] += far[r, k]
    return m[..., :-1]


def test_equals_dense_products_and_their_transposes():
    features, batch, axes, upstream = case()
    matrices = [dense(axes, a, len(batch)) for a in range(3)]
    out = np.full(upstream.shape, np.nan)
    kernel.pool(features, batch, axes, out)
    want = np.einsum("rzyxc,rpz,rqy,rsx->rpqsc", features[batch], *matrices)
    np.testing.assert_allclose(out, want, rtol=0, atol=1e-13)
    grad = np.ones_like(features)
    kernel.spread(upstream, batch, axes, grad)
    each = np.einsum("rpqsc,rpz,rqy,rsx->rzyxc", upstream, *matrices)
    want = np.stack([each[batch == b].sum(0) for b in (0, 1)]) + 1  # it adds
    np.testing.assert_allclose(grad, want, rtol=0, atol=1e-12)


def test_one_thread_or_many_give_the_same_bits():
    features, batch, axes, upstream = case()
    results = []
    for threads in (1, 3):
        out, grad = np.empty(upstream.shape), np.zeros_like(features)
        kernel.pool(features, batch, axes, out, threads=threads)
        kernel.spread(upstream, batch, axes, grad, threads=threads)
        results.append((out, grad))
    assert np.array_equal(results[0][0], results[1][0])
    assert np.array_equal(results[0][1], results[1][1])


def test_features_with_channels_first_give_the_same_bits():
    features, batch, axes, upstream = case()
    last, first = np.empty(upstream.shape), np.empty(upstream.shape)
    kernel.pool(features, batch, axes, last)
    turned = np.ascontiguousarray(np.moveaxis(features, -1, 1))
    kernel.pool(turned, batch, axes, first, channels_first=True)
    assert np.array_equal(first, last)


@pytest.mark.parametrize("shape", [(1, 3, 1000), (1, 70, 1024), (5, 66, 27), (1, 1, 1), (0, 3, 4)])
@pytest.mark.parametrize("threads", [1, 2])
def test_channels_last_is_a_transpose(shape, threads):
    source = np.random.default_rng(0).standard_normal(shape)
    out = np.full((shape[0], shape[2], shape[1]), np.nan)
    kernel.channels_last(source, out, threads)
    assert np.array_equal(out, source.swapaxes(1, 2))
