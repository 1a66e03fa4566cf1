"""What counts, and which two may be a pair: against brute force mask by mask, and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from medseg.metrics.instance import Described, scene
from tests.metrics.instance.oracles import blocks

MAPS = npst.arrays(np.int16, (3, 2, 7), elements=st.sampled_from([0, 1, 2, 3, 9]))
CLASSES = st.fixed_dictionaries({v: st.sampled_from([0, 1]) for v in (1, 2, 3, 9)})
SETS = st.frozensets(st.sampled_from([1, 2, 3, 9]), max_size=2)


def box(mask):
    places = np.argwhere(mask)
    return [(int(a), int(b) + 1) for a, b in zip(places.min(0), places.max(0), strict=True)]


def box_iou(a, b):
    shared = np.prod([max(0, min(x[1], y[1]) - max(x[0], y[0])) for x, y in zip(a, b, strict=True)])
    return shared / (sum(np.prod([high - low for low, high in c]) for c in (a, b)) - shared)


@given(MAPS, MAPS, CLASSES, CLASSES, SETS, SETS, st.integers(0, 3))
def test_brute_force(pred, ref, pred_classes, ref_classes, box_only, ignore, smallest):
    found = scene(
        Described(pred, pred_classes), Described(ref, ref_classes, box_only=box_only, ignore=ignore), smallest=smallest
    )
    masks, boxes = found.together([(0, 0), (1, 1)])
    shunned = np.isin(ref, list(ignore))
    preds = [p for p in np.unique(pred[pred > 0]).tolist() if (pred == p).sum() >= smallest]
    kept = [p for p in preds if (shunned & (pred == p)).sum() * 2 <= (pred == p).sum()]
    refs = [r for r in np.unique(ref[ref > 0]).tolist() if r not in ignore and (ref == r).sum() >= smallest]
    assert masks.overlaps.pred_ids.tolist() == boxes.overlaps.pred_ids.tolist() == kept
    assert masks.overlaps.ref_ids.tolist() == refs
    assert found.left_out == len(preds) - len(kept)
    by_mask, by_box = {}, {}
    for p in kept:
        for r in refs:
            if pred_classes[p] != ref_classes[r]:
                continue
            a, b = pred == p, ref == r
            of_boxes, of_masks = box_iou(box(a), box(b)), (a & b).sum() / (a | b).sum()
            by_box[p, r] = of_boxes
            by_mask[p, r] = of_boxes if r in box_only else of_masks
    for case, expected in ((masks, by_mask), (boxes, by_box)):
        o = case.overlaps
        pairs = zip(o.pred_ids[o.index[:, 0]].tolist(), o.ref_ids[o.index[:, 1]].tolist(), strict=True)
        assert dict(zip(pairs, o.iou.tolist(), strict=True)) == {k: v for k, v in expected.items() if v > 0}


@given(MAPS, MAPS, CLASSES, CLASSES)
def test_one_class_is_its_part_of_the_whole(pred, ref, pred_classes, ref_classes):
    found = scene(Described(pred, pred_classes), Described(ref, ref_classes))
    whole = found.together([(0, 0), (1, 1)])[0].overlaps
    parts = [found.of([c], [c])[0].overlaps for c in (0, 1)]
    assert sum(o.n_pred for o in parts) == whole.n_pred
    assert sorted(whole.iou.tolist()) == sorted(v for o in parts for v in o.iou.tolist())


def test_classes_may_be_numbered_differently():
    labels = blocks((0, 4), (10, 14))
    found = scene(Described(labels, {1: 5, 2: 6}), Described(labels, {1: 0, 2: 6}))
    assert found.of([5], [0])[0].overlaps.iou.tolist() == [1.0]
    assert len(found.together([(5, 0)])[0].overlaps.index) == 1
    assert found.together([(5, 6), (6, 0)])[0].overlaps.index.tolist() == []
    assert found.together([])[0].overlaps.n_pred == 0


def test_a_box_of_exactly_half_reaches_the_threshold():
    # The box of two voxels that are 6 apart is half of the drawn one: exactly half, to reach IoU >= 0.5.
    ref, pred = blocks((0, 12)), blocks((0, 1), (20, 21))
    pred[..., 5] = 1
    found = scene(Described(pred), Described(ref, box_only=frozenset({1})))
    assert found.masks.iou.tolist() == [0.5]
    assert found.masks.dice.tolist() == [2 / 3]


def test_half_in_a_region_to_ignore_is_not_most_of_it():
    ref = blocks((0, 4), (10, 14))
    pred = blocks((2, 6), (9, 12), (11, 11))
    found = scene(Described(pred), Described(ref, ignore=frozenset({1, 2})))
    assert (found.masks.pred_ids.tolist(), found.masks.n_ref, found.left_out) == ([1], 0, 1)


def test_scores_and_what_is_said_of_no_instance():
    labels = blocks((0, 4), (10, 14))
    assert scene(Described(labels), Described(labels)).of([0], [0])[0].scores.tolist() == [1.0, 1.0]
    given = Described(labels, scores={1: 0.5, 2: 0.25, 3: 0.9})
    assert scene(given, Described(labels)).of([0], [0])[0].scores.tolist() == [0.5, 0.25]
    with pytest.raises(ValueError, match="every instance has a class, got none for 2"):
        scene(Described(labels, {1: 0}), Described(labels))
    with pytest.raises(ValueError, match="every instance has a score, got none for 1"):
        scene(Described(labels, scores={2: 0.5}), Described(labels)).of([0], [0])
