"""Filled boxes become ellipsoids with the same box, and deform as the object would."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medseg.boxes.convention import boxes_of_instances
from medseg.boxes.overlap import iou_pairs
from medseg.transforms.elastic import RandDeformd
from medseg.transforms.instances.rounded import round_off
from medseg.transforms.warp import deform_labels


def boxes(ids: np.ndarray) -> list:
    return [t.tolist() for t in boxes_of_instances(torch.from_numpy(ids))]


@given(size=st.tuples(*[st.integers(1, 9)] * 3))
def test_the_ellipsoid_touches_all_six_sides_of_its_box(size):
    ids = np.zeros((11, 12, 13), np.int16)
    here = tuple(slice(1, 1 + n) for n in size)
    ids[here] = 1
    out = round_off(ids, [1])
    assert boxes(out) == boxes(ids)
    centres = np.stack(np.meshgrid(*[np.arange(n) + 0.5 - n / 2 for n in size], indexing="ij"), -1)
    ball = (4 * (centres / size) ** 2).sum(-1) <= 1
    assert (out[here][ball] == 1).all()
    more = np.argwhere((out[here] == 1) & ~ball)  # poles that a coarse lattice has missed
    assert len(more) <= 6
    assert ((more == 0) | (more == np.array(size) - 1)).any(1).all()
    assert min(size) < 3 or len(more) == 0


@given(ids=arrays(np.int16, (5, 6, 7), elements=st.integers(0, 4)), numbers=st.sets(st.integers(1, 5)))
def test_boxes_stay_whatever_lies_over_them_and_others_are_untouched(ids, numbers):
    out = round_off(ids, [n for n in numbers if n <= ids.max()])
    assert boxes(out) == boxes(ids)
    changed = out != ids
    assert not out[changed].any()
    assert set(ids[changed].tolist()) <= numbers


def test_its_box_follows_a_turned_object_better_than_a_filled_boxs():
    where = np.stack(np.meshgrid(*[np.arange(32) - 15.5] * 3, indexing="ij"), -1)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    truth = (((where @ turn) / [10, 5, 4]) ** 2).sum(-1) <= 1
    low, high = np.argwhere(truth).min(0), np.argwhere(truth).max(0) + 1
    filled = np.zeros((32, 32, 32), np.int16)
    filled[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = 1
    cut = RandDeformd("x", (), (32, 32, 32), prob=1.0, elastic_mm=0.5).set_random_state(0)
    found = []
    for _ in range(10):
        deformation = cut.choose((32, 32, 32), np.ones(3))
        moved = [
            boxes_of_instances(deform_labels(torch.from_numpy(m.astype(np.int16))[None], deformation)[0])[1]
            for m in (truth, filled, round_off(filled, [1]))
        ]
        found.append([float(iou_pairs(moved[0], m)) for m in moved[1:]])
    as_box, as_ellipsoid = np.mean(found, 0)
    assert as_ellipsoid > as_box + 0.1
    assert as_ellipsoid > 0.7
