import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.metrics.regions import boundary_band, foreground, near

SPACINGS = st.tuples(*[st.sampled_from([0.5, 1.0, 1.5, 2.5])] * 3)


def maps(shape=(7, 8, 6), share=0.03, seed=0):
    random = np.random.default_rng(seed)
    return [(random.random(shape) < share) * random.integers(1, 4, shape) for _ in range(2)]


def within(seeds, distance_mm, spacing_mm):
    """Every voxel against every seed."""
    points = np.argwhere(np.ones(seeds.shape, bool)) * spacing_mm
    found = np.argwhere(seeds) * spacing_mm
    squared = ((points[:, None] - found[None]) ** 2).sum(axis=-1).min(axis=1, initial=np.inf)
    return (np.sqrt(squared) <= distance_mm).reshape(seeds.shape)


def surface(labels):
    """A voxel of a structure of whose six neighbours one has another value or lies outside."""
    out = np.zeros(labels.shape, bool)
    padded = np.pad(labels, 1, constant_values=-1)
    for i, j, k in np.argwhere(labels > 0):
        steps = [(0, 1, 1), (2, 1, 1), (1, 0, 1), (1, 2, 1), (1, 1, 0), (1, 1, 2)]
        out[i, j, k] = any(padded[i + a, j + b, k + c] != labels[i, j, k] for a, b, c in steps)
    return out


@given(st.integers(0, 99), SPACINGS, st.sampled_from([0.0, 1.0, 1.2, 2.5, 5.0]), st.sampled_from([0.0, 0.01, 0.05]))
def test_near_equals_all_distances(seed, spacing_mm, distance_mm, share):
    pred, ref = maps(share=share, seed=seed)
    want = within((pred > 0) | (ref > 0), distance_mm, spacing_mm)
    np.testing.assert_array_equal(near(pred, ref, distance_mm, spacing_mm=spacing_mm), want)


@given(st.integers(0, 99), SPACINGS, st.sampled_from([0.0, 1.0, 2.5]))
def test_the_band_equals_all_distances_to_the_surface(seed, spacing_mm, band_mm):
    pred, ref = maps(share=0.0, seed=seed)
    pred[1:5, 1:6, :5], ref[2:7, 2:6, 1:4], ref[2:4, 3:5, 2:4] = 1, 1, 2
    want = within(surface(pred) | surface(ref), band_mm, spacing_mm)
    np.testing.assert_array_equal(boundary_band(pred, ref, band_mm, spacing_mm=spacing_mm), want)


def test_the_inside_of_a_large_structure_is_foreground_but_no_boundary():
    pred = np.zeros((21, 21, 21), np.uint8)
    pred[2:19, 2:19, 2:19] = 1
    band = boundary_band(pred, pred, 2.0, spacing_mm=(1, 1, 1))
    assert foreground(pred, pred)[10, 10, 10]
    assert near(pred, pred, 2.0, spacing_mm=(1, 1, 1))[10, 10, 10]
    assert not band[10, 10, 10]
    assert band[2, 10, 10]
    assert band[0, 10, 10]
    assert band[4, 10, 10]
    assert not band[5, 10, 10]


@pytest.mark.parametrize("region", [near, boundary_band])
def test_memory_order_and_threads_change_nothing(region):
    pred, ref = maps(share=0.02)
    want = region(pred, ref, 2.0, spacing_mm=(0.5, 1.0, 2.5))
    turned = region(np.asfortranarray(pred), np.asfortranarray(ref), 2.0, spacing_mm=(0.5, 1.0, 2.5))
    np.testing.assert_array_equal(turned, want)
    np.testing.assert_array_equal(region(pred, ref, 2.0, spacing_mm=(0.5, 1.0, 2.5), threads=2), want)


def test_wrong_arguments_are_named():
    empty = np.zeros((2, 3, 4), np.uint8)
    with pytest.raises(ValueError, match=r"got pred \(2, 3, 4\) and ref \(4, 3, 2\)"):
        near(empty, empty.T, spacing_mm=(1, 1, 1))
    with pytest.raises(ValueError, match=r"three lengths above 0, got \(1, 0, 1\)"):
        near(empty, empty, spacing_mm=(1, 0, 1))
    with pytest.raises(ValueError, match="0 mm or more, got -1"):
        boundary_band(empty, empty, -1, spacing_mm=(1, 1, 1))
