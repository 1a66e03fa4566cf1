"""Verdicts on stacks of positions: closed forms and invariants."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medseg.readers.dicom.geometry import classify, places, sort_planes
from medseg.readers.dicom.planes import Plane

HEADER = SimpleNamespace(path="x")


def planes(positions, rotation=None, thickness=None) -> list[Plane]:
    turn = Rotation.identity() if rotation is None else rotation
    r, c = turn.apply([[1.0, 0, 0], [0, 1, 0]])
    iop = tuple(float(x) for x in (*r, *c))
    at = [tuple(float(x) for x in turn.apply(p)) for p in positions]
    return [Plane(HEADER, 7, 5, p, iop, (2.0, 3.0), thickness=thickness) for p in at]  # pyright: ignore[reportArgumentType]


def line(heights, lean=0.0):
    return [(0.0, lean * h, float(h)) for h in heights]


@given(
    step=st.floats(0.2, 20),
    count=st.integers(2, 40),
    seed=st.integers(0, 1000),
    lean=st.sampled_from([0.0, 0.2, -0.4]),
    order=st.randoms(use_true_random=False),
)
def test_even_stacks_in_any_place_and_order(step, count, seed, lean, order):
    rotation = Rotation.random(random_state=seed)
    made = planes(line(np.arange(count) * step, lean), rotation)
    shuffled = made.copy()
    order.shuffle(shuffled)
    found = sort_planes(shuffled)
    assert found == made
    geometry = classify(found)
    assert geometry.kind == ("tilted" if lean else "regular")
    assert geometry.tilt_deg == pytest.approx(np.degrees(np.arctan(abs(lean))), abs=1e-6)
    assert geometry.slices == count
    last = geometry.affine_lps @ [0, 0, count - 1, 1]
    assert last[:3] == pytest.approx(made[-1].position)
    r, c = made[0].axes
    assert geometry.affine_lps[:3, 0] == pytest.approx(r * 3)
    assert geometry.affine_lps[:3, 1] == pytest.approx(c * 2)


@given(
    count=st.integers(4, 40),
    missing=st.sets(st.integers(1, 38), min_size=1, max_size=4),
    step=st.floats(0.3, 10),
    jitter=st.floats(0, 0.02),
    seed=st.integers(0, 100),
)
def test_missing_slices_are_always_seen(count, missing, step, jitter, seed):
    missing = {m for m in missing if m < count - 1}
    assume(missing)
    kept = [k for k in range(count) if k not in missing]
    assume(len(kept) >= 4)
    steps = np.diff(kept)
    assume((steps == 1).sum() > (steps > 1).sum())  # the usual step is the true one
    heights = (np.array(kept) + jitter * np.random.default_rng(seed).uniform(-1, 1, len(kept))) * step
    geometry = classify(planes(line(heights)))
    assert geometry.kind == "gapped"
    assert geometry.index == tuple(kept)
    assert geometry.slices == count
    assert steps[geometry.gap] == steps.max()


def test_hand_worked():
    geometry = classify(planes(line([0, 5, 10, 20])))
    assert (geometry.kind, geometry.index, geometry.gap) == ("gapped", (0, 1, 2, 4), 2)
    geometry = classify(planes(line([0, 5, 15])))
    assert (geometry.kind, geometry.index, geometry.gap) == ("gapped", (0, 1, 3), 1)
    geometry = classify(planes(line([0, 5, 10, 13, 16.5, 19])))
    assert geometry.kind == "irregular"
    assert classify(planes([(0, 0, 0), (0, 0, 5), (4, 0, 10), (0, 0, 15)])).kind == "scattered"


def test_single_slice_takes_its_thickness_or_one_mm():
    assert classify(planes(line([3]), thickness=4.0)).affine_lps[2, 2] == 4
    assert classify(planes(line([3]))).affine_lps[2, 2] == 1
    assert classify(planes(line([3]), thickness=0.0)).affine_lps[2, 2] == 1


def test_places_join_what_is_within_a_hundredth_of_a_millimetre():
    made = planes(line([0, 0.005, 1, 2, 2.009, 2.02]))
    assert [len(g) for g in places(made)] == [2, 1, 2, 1]


def test_the_place_is_named_as_the_patient_lies():
    assert planes(line([-7.5]))[0].place == "z=-7.5 mm"
    coronal = Plane(HEADER, 7, 5, (0.0, 12.0, 0.0), (1.0, 0, 0, 0, 0, -1), (1.0, 1.0))  # pyright: ignore[reportArgumentType]
    assert coronal.place == "y=-12 mm"  # RAS
