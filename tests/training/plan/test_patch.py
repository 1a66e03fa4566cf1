"""The patch fits memory and time, and becomes a cube in space."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import UsageError
from medseg.training.plan.memory import PROCESS, STEP_SHARE
from medseg.training.plan.patch import TIMELY, patch_for


def test_the_hippocampus_fits_whole_with_a_narrow_network():
    found = patch_for(np.tile([35.0, 50.0, 36.0], (160, 1)), (1, 1, 1), 1, 3, 8e9)
    assert found.size == (40, 56, 40)
    assert found.batch == 2
    assert found.topology.features == (16, 32, 64, 128)


@pytest.mark.parametrize(("budget", "cube"), [(8e9, 96), (24e9, 128), (80e9, 160)])
def test_a_large_scan_becomes_a_cube_within_the_time(budget, cube):
    found = patch_for(np.tile([512.0, 512.0, 512.0], (30, 1)), (1, 1, 1), 1, 2, budget)
    assert prod(found.size) <= cube**3
    assert max(found.size) <= 1.35 * min(found.size)
    assert found.topology.features[0] == 32  # plenty of voxels to learn from


def test_anisotropic_voxels_make_a_cube_in_mm():
    found = patch_for(np.tile([512.0, 512.0, 120.0], (5, 1)), (0.8, 0.8, 2.4), 1, 2, 8e9)
    extent = np.array(found.size) * [0.8, 0.8, 2.4]
    assert extent.max() <= 1.5 * extent.min()


def test_many_structures_need_more_than_the_narrowest_network():
    few, many = (patch_for(np.full((2, 3), 64.0), (1, 1, 1), 1, n, 8e9) for n in (3, 60))
    assert (few.topology.features[0], many.topology.features[0]) == (16, 24)


@given(
    st.tuples(*[st.integers(10, 400)] * 3),
    st.sampled_from([2e9, 4e9, 8e9, 24e9]),
    st.integers(1, 4),
    st.integers(2, 20),
)
def test_it_never_takes_more_than_its_share(size, budget, channels, outputs):
    found = patch_for(np.array([size], float), (1, 1, 1), channels, outputs, budget)
    assert found.bytes <= STEP_SHARE * (budget - PROCESS)
    timely = next(most for limit, most in TIMELY if budget <= limit)
    assert prod(found.size) <= timely
    assert all(n % d == 0 for n, d in zip(found.size, found.topology.divisor, strict=True))


def test_a_smaller_share_makes_a_smaller_patch():
    sizes = np.full((4, 3), 200.0)
    full, less = (patch_for(sizes, (1, 1, 1), 1, 3, 3e9, share) for share in (0.6, 0.3))
    assert prod(less.size) < prod(full.size)


def test_no_memory_at_all_is_refused():
    with pytest.raises(UsageError, match="MS-T151"):
        patch_for(np.full((2, 3), 64.0), (1, 1, 1), 1, 2, 0.5e9)
