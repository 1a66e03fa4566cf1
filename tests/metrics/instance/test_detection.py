"""Plain maps measure as `instance_metrics`; boxes, average recall and outlines by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from medseg.metrics.instance import Described, detection, instance_metrics, pooled_detection_rows, pooled_rows, scene
from tests.metrics.instance.oracles import blocks

MM = (1.0, 1.0, 2.0)
MAPS = npst.arrays(np.int16, (2, 2, 6), elements=st.sampled_from([0, 1, 2, 3, 9]))


def detected(pred, ref, **options):
    found = scene(*(d if isinstance(d, Described) else Described(d) for d in (pred, ref)))
    return detection(found, found.of([0], [0]), spacing_mm=MM, **{"definition": None, **options})


@given(st.lists(st.tuples(MAPS, MAPS), min_size=1, max_size=3))
def test_plain_maps_are_as_they_are_without_classes(cases):
    mine, theirs = [], []
    for pred, ref in cases:
        scores = {int(v): 1 / int(v) for v in np.unique(pred) if v}
        mine.append(detected(Described(pred, scores=scores), ref))
        theirs.append(instance_metrics(pred, ref, spacing_mm=MM, iou=(0.1, 0.5), scores=scores, definition=None))
    for one, other in zip(mine, theirs, strict=True):
        rows = dict(one.rows())
        assert {k: rows[k] for k, _ in other.rows()} == dict(other.rows())
    rows = dict(pooled_detection_rows(mine))
    assert {k: rows[k] for k, _ in pooled_rows(theirs)} == dict(pooled_rows(theirs))


def test_boxes_and_recall_by_hand():
    pred, ref = blocks((0, 1), (8, 11), (20, 22)), blocks((0, 4), (8, 12), (16, 18))
    pred[..., 3] = 1  # its box is that of the reference, its mask half of it
    rows = dict(detected(pred, ref, iou=(0.1, 0.6)).rows())
    # IoU of masks .5 and .75, of boxes 1 and .75; in the order given two of three are right.
    assert rows["ap@0.6iou"] == pytest.approx(34 / 2 / 101)
    assert rows["box_ap@0.6iou"] == rows["box_ap@0.1iou"] == rows["ap@0.1iou"] == pytest.approx(67 / 101)
    assert rows["ar@0.1:0.5iou"] == pytest.approx(2 / 3)
    assert rows["ar@0.5:0.95iou"] == pytest.approx((2 + 5 * 1) / 30)
    assert rows["dice_matched@0.1iou"] == pytest.approx((2 * 2 / 6 + 2 * 3 / 7) / 2)


def test_what_is_only_a_box_has_no_outline():
    labels = blocks((0, 4), (8, 12))
    shifted = blocks((0, 4), (9, 12))
    found = detected(shifted, Described(labels, box_only=frozenset({2})), definition="border")
    rows = dict(found.rows())
    assert (rows["dice_matched@0.1iou"], rows["hd95_matched_mm@0.1iou"], rows["f1@0.5iou"]) == (1.0, 0.0, 1.0)
    found = detected(shifted, Described(labels, box_only=frozenset({1, 2})), definition="border")
    assert not [name for name, _ in found.rows() if "_matched" in name]


@pytest.mark.parametrize(
    ("pred", "ref", "value"),
    [(blocks(), blocks(), 1.0), (blocks((0, 2)), blocks(), 0.0), (blocks(), blocks((0, 2)), 0.0)],
)
def test_maps_without_instances(pred, ref, value):
    rows = dict(detected(pred, ref).rows())
    for name in ("ap@0.1iou", "box_ap@0.5iou", "ar@0.1:0.5iou", "ar@0.5:0.95iou", "map@0.5:0.95iou", "pq"):
        assert rows[name] == value
    assert "dice_matched@0.1iou" not in rows


def test_pooled_outlines_are_means_over_pairs():
    one = detected(blocks((0, 4)), blocks((0, 4)))
    two = detected(blocks((0, 2), (8, 10)), blocks((0, 4), (8, 12)))
    assert dict(pooled_detection_rows([one, two]))["dice_matched@0.1iou"] == pytest.approx((1 + 2 * 2 / 3) / 3)
