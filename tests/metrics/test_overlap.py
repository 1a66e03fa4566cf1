from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medseg.metrics.contingency import contingency
from medseg.metrics.overlap import confusion_matrix, overlap_metrics
from medseg.metrics.structures import structures

SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6)
MAPS = SHAPES.flatmap(lambda s: st.tuples(*[hnp.arrays(np.uint8, s, elements=st.integers(0, 3))] * 2))


def box(shape, start, stop):
    out = np.zeros(shape, np.uint8)
    out[tuple(map(slice, start, stop))] = 1
    return out


def test_two_boxes_by_hand():
    # 4 x 4 x 4 and the same moved by one voxel: 48 in both, 16 alone on either side; a voxel is 0.006 mL.
    pred, ref = box((9, 9, 9), (1, 1, 1), (5, 5, 5)), box((9, 9, 9), (2, 1, 1), (6, 5, 5))
    found = overlap_metrics(pred, ref, spacing_mm=(1, 2, 3))[1]
    assert dict(found.rows()) == pytest.approx({
        "dice": 96 / 128, "iou": 48 / 80, "precision": 48 / 64, "recall": 48 / 64,
        "volume_pred_ml": 64 * 0.006, "volume_ref_ml": 64 * 0.006, "volume_difference_ml": 0,
    })  # fmt: skip


@given(MAPS)
@settings(deadline=None)
def test_equals_counting_voxels(maps):
    pred, ref = maps
    named = {"one": 1, "two and three": (2, 3), "absent": 9}
    found = overlap_metrics(pred, ref, named, spacing_mm=(1, 1, 1))
    for name, values in {"one": [1], "two and three": [2, 3], "absent": [9]}.items():
        p, r = np.isin(pred, values), np.isin(ref, values)
        tp, fp, fn = (p & r).sum(), (p & ~r).sum(), (~p & r).sum()
        assert (found[name].tp, found[name].fp, found[name].fn) == (tp, fp, fn)
        if p.any() and r.any():
            assert found[name].dice == pytest.approx(2 * tp / (2 * tp + fp + fn))
            assert found[name].iou == pytest.approx(tp / (tp + fp + fn))
        else:
            assert found[name].dice == found[name].precision == float(p.any() == r.any())


@given(MAPS)
@settings(deadline=None)
def test_turned_over_recall_is_precision(maps):
    pred, ref = maps
    one, other = (overlap_metrics(*pair, spacing_mm=(1, 1, 1)) for pair in (maps, (ref, pred)))
    for key in one:
        assert one[key].dice == other[key].dice
        assert one[key].precision == other[key].recall


@pytest.mark.parametrize(
    ("pred", "ref", "status", "value"),
    [(0, 0, "both_empty", 1.0), (1, 0, "ref_empty", 0.0), (0, 1, "pred_empty", 0.0), (1, 1, "ok", 1.0)],
)
def test_empty_masks(pred, ref, status, value):
    found = overlap_metrics(np.full((2, 2, 2), pred), np.full((2, 2, 2), ref), [1], spacing_mm=(1, 1, 1))[1]
    assert (found.status, found.dice, found.iou, found.precision, found.recall) == (status, *[value] * 4)


@given(MAPS)
@settings(deadline=None)
def test_confusion_matrix_counts_every_voxel_once(maps):
    pred, ref = maps
    table = confusion_matrix(contingency(pred, ref), [0, 1, 2])
    assert table.sum() == pred.size
    assert table[1, 2] == ((ref == 1) & (pred == 2)).sum()
    assert table[3, 3] == ((ref == 3) & (pred == 3)).sum()


def test_confusion_matrix_with_a_value_twice():
    table = contingency(np.zeros((1, 1, 1), int), np.zeros((1, 1, 1), int))
    with pytest.raises(ValueError, match=r"each value has one row, got \[1, 1\]"):
        confusion_matrix(table, [1, 1])


def test_structures_as_users_name_them():
    assert structures(None, [np.array([0, 2, 5]), np.array([-1, 1])]) == {1: (1,), 2: (2,), 5: (5,)}
    assert structures([3, 1], []) == {3: (3,), 1: (1,)}
    assert structures({"liver": 1, "all": (1, 2)}, []) == {"liver": (1,), "all": (1, 2)}
    with pytest.raises(ValueError, match=r"got none for nothing"):
        structures({"nothing": ()}, [])
