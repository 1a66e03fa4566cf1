"""The kernels against loops over voxels, their adjoints, and any number of threads."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from medseg.losses.skeleton_kernel import dilate, dilate_back, erode, erode_back

FACES = [(0, 0, 0), (-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, -1), (0, 0, 1)]
BLOCK = list(product((-1, 0, 1), repeat=3))


def by_loops(x: np.ndarray, grad: np.ndarray, offsets, best) -> tuple[np.ndarray, np.ndarray]:
    """The best of each neighbourhood, and the gradient where that is one voxel."""
    out, back = np.empty_like(x), np.zeros_like(x)
    for n, *place in np.ndindex(*x.shape):
        around = [tuple(np.add(place, o)) for o in offsets]
        inside = [p for p in around if all(0 <= i < size for i, size in zip(p, x.shape[1:], strict=True))]
        chosen = best(inside, key=lambda p, n=n: x[n][p])
        out[n][tuple(place)] = x[n][chosen]
        back[n][chosen] += grad[n][tuple(place)]
    return out, back


@pytest.mark.parametrize(
    ("forward", "back", "offsets", "best"),
    [(erode, erode_back, FACES, min), (dilate, dilate_back, BLOCK, max)],
    ids=["erode", "dilate"],
)
@pytest.mark.parametrize("shape", [(2, 4, 5, 6), (1, 1, 3, 1), (1, 2, 1, 2)])
@pytest.mark.parametrize("threads", [1, 3])
def test_it_is_the_loop(forward, back, offsets, best, shape, threads):
    rng = np.random.default_rng(0)
    x, grad = rng.random(shape, np.float32), rng.random(shape, np.float32)
    out, chosen = forward(x, threads)
    expected, expected_back = by_loops(x, grad, offsets, best)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_allclose(back(grad, chosen, threads), expected_back, rtol=1e-5)


@pytest.mark.parametrize(("forward", "back"), [(erode, erode_back), (dilate, dilate_back)], ids=["erode", "dilate"])
def test_of_equals_one_gets_the_gradient(forward, back):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (2, 6, 5, 7)).astype(np.float32)
    grad = rng.random(x.shape, np.float32)
    out, chosen = forward(x, 2)
    found = back(grad, chosen, 2)
    assert found.sum() == pytest.approx(grad.sum(), rel=1e-5)
    for value in (0, 1):  # what reached voxels of a value came from where that value was best
        assert found[x == value].sum() == pytest.approx(grad[out == value].sum(), rel=1e-5)
    flat = np.full((1, 4, 4, 4), 0.5, np.float32)  # a voxel that is as good as its neighbours is its own
    np.testing.assert_array_equal(back(grad[:1, :4, :4, :4].copy(), forward(flat, 1)[1], 1), grad[:1, :4, :4, :4])
