"""Doubt by structure: agreement against all pairs, sides by geometry, flags by thresholds."""

from __future__ import annotations

from itertools import combinations
from math import isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medseg.bundle.uncertainty import Calibration, Flags
from medseg.labels import LabelTable
from medseg.volume import Volume
from medseg.workflows.doubt import ACROSS, DETACHED, LOW, Doubt, agreement, doubts, flags, wrong_side


@given(arrays(bool, st.tuples(st.integers(2, 6), *[st.integers(1, 4)] * 3)))
def test_agreement_is_the_dice_of_all_pairs_pooled(samples):
    pairs = list(combinations(samples, 2))
    common = sum(2 * int((a & b).sum()) for a, b in pairs)
    sizes = sum(int(a.sum()) + int(b.sum()) for a, b in pairs)
    found = agreement(samples.sum(0).astype(np.uint8), len(samples))
    if sizes:
        assert found == pytest.approx(common / sizes)
    else:
        assert isnan(found)


def test_agreement_of_equal_and_of_disjoint_samples():
    assert agreement(np.array([0, 5, 5], np.uint8), 5) == 1
    assert agreement(np.array([1, 1, 1], np.uint8), 3) == 0
    assert isnan(agreement(np.array([1], np.uint8), 1))


TABLE = LabelTable.from_json([{"value": 1, "name": "core"}, {"value": 2, "name": "whole", "region": [1, 2]}])


def test_numbers_of_a_structure():
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[1:5, 1:5, 1:5] = 2
    labels[2:4, 2:4, 2:4] = 1
    entropy = np.zeros(labels.shape, np.float32)
    entropy[labels == 2] = 0.5
    votes = {"core": np.where(labels == 1, 4, 0).astype(np.uint8)}
    sizes = {"core": [0.008, 0.010, 0.008, 0.006]}
    found = doubts(Volume(labels, np.eye(4)), entropy, votes, sizes, TABLE, Calibration(1.0, {"core": (0.1, 0.8)}))
    core, whole = found["core"], found["whole"]
    assert core.volume_sd_ml == pytest.approx(np.std([8, 10, 8, 6], ddof=1) / 1000)
    assert (core.entropy_inside, core.entropy_boundary, core.agreement) == (0, 0, 1)
    assert core.predicted_dice == pytest.approx(0.9)
    assert whole.entropy_inside == pytest.approx(0.5 * 56 / 64)
    assert isnan(whole.agreement)
    assert isnan(whole.predicted_dice)


def sided(left_x: tuple[int, ...], right_x: tuple[int, ...], flip: bool) -> Volume:
    """Left and right structures as columns at array indices; RAS, or with the first axis turned around."""
    labels = np.zeros((10, 2, 2), np.uint8)
    for x in left_x:
        labels[x] = 1
    for x in right_x:
        labels[x] = 2
    affine = np.eye(4)
    if flip:
        labels, affine[0, 0], affine[0, 3] = labels[::-1].copy(), -1, 9
    return Volume(labels, affine)


PAIR = LabelTable.from_json(
    [
        {"value": 1, "name": "Left kidney", "mirror": "Right kidney"},
        {"value": 2, "name": "Right kidney", "mirror": "Left kidney"},
    ]
)


@pytest.mark.parametrize("flip", [False, True])
def test_sides_come_from_the_affine(flip):
    assert wrong_side(sided((1, 2), (7, 8), flip), PAIR) == {"Left kidney": 0, "Right kidney": 0}
    assert wrong_side(sided((7, 8), (1, 2), flip), PAIR) == {"Left kidney": 1, "Right kidney": 1}
    strayed = wrong_side(sided((0, 1, 8), (9,), flip), PAIR)
    assert strayed == {"Left kidney": pytest.approx(1 / 3), "Right kidney": 0}
    assert wrong_side(sided((1,), (), flip), PAIR) == {}
    assert wrong_side(sided((1,), (7,), flip), TABLE) == {}


def test_flags_follow_the_thresholds():
    volume = sided((0, 1, 8), (9,), False)
    unsure = {"Left kidney": Doubt(predicted_dice=0.7), "Right kidney": Doubt(predicted_dice=0.9)}
    said = flags(volume, PAIR, unsure, Flags(low_dice=0.8, detached_share=0.2, across_midline_share=0.2))
    assert said == {"Left kidney": [LOW, DETACHED, ACROSS], "Right kidney": []}
    low = flags(volume, PAIR, {"Left kidney": Doubt(agreement=0.8)}, Flags(), {"Left kidney": 0.85})
    assert low == {"Left kidney": [LOW], "Right kidney": []}
    assert flags(volume, PAIR, unsure, Flags()) == {"Left kidney": [], "Right kidney": []}
    assert flags(volume, PAIR, {}, Flags(low_dice=0.8)) == {"Left kidney": [], "Right kidney": []}
