"""The target spacing follows nnU-Net's rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.training.plan.spacing import sizes_at, target_spacing


def test_the_median_where_voxels_are_nearly_cubes(fact):
    facts = [fact(spacing=(0.8, 0.8, z)) for z in (1.0, 1.5, 2.0)]
    spacing, choice = target_spacing(facts)
    assert spacing == (0.8, 0.8, 1.5)
    assert "3 cases" in choice.why


def test_the_tenth_quantile_along_thick_slices(fact):
    # nnU-Net: max spacing 6 > 3 x 1 and 40 voxels x 3 < 256
    thick = np.linspace(2.0, 10.0, 11)
    facts = [fact(shape=(256, 256, 40), spacing=(1.0, 1.0, z)) for z in thick]
    spacing, choice = target_spacing(facts)
    assert spacing == pytest.approx((1.0, 1.0, np.quantile(thick, 0.1)))
    assert "thick along S-I" in choice.why


def test_thick_slices_of_an_otherwise_full_axis_stay_at_the_median(fact):
    facts = [fact(shape=(100, 100, 90), spacing=(1.0, 1.0, z)) for z in (3.0, 4.0, 5.0)]
    assert target_spacing(facts)[0] == (1.0, 1.0, 4.0)


def test_equal_spacings_are_one_number(fact):
    facts = [fact(spacing=(0.99999, 1.0, 1.00001)) for _ in range(4)]
    assert target_spacing(facts)[0] == (1.0, 1.0, 1.0)


@given(st.lists(st.tuples(*[st.floats(0.3, 6.0)] * 3), min_size=1, max_size=8))
def test_the_target_lies_within_what_the_cases_have(spacings):
    from medseg.training.plan.look import Facts

    facts = [Facts("a", (64, 64, 64), mm, (), {}, "") for mm in spacings]
    target = target_spacing(facts)[0]
    every = np.array(spacings)
    slack = 1e-3 * every.max(0)
    assert (every.min(0) - slack <= target).all()
    # A thick axis is never made finer than the others, so its target may be theirs.
    assert (np.array(target) <= np.maximum(every.max(0), np.median(every, axis=0).max()) + slack).all()


def test_sizes_cover_the_scan(fact):
    assert sizes_at([fact(shape=(10, 11, 10), spacing=(0.7, 0.7, 2.0))], (1.0, 1.0, 1.0)).tolist() == [[7, 8, 20]]
