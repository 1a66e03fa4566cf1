import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from medseg.metrics.contingency import contingency
from medseg.metrics.instance import box_overlaps, centroids_mm, instance_overlaps, sphere_radius_mm
from tests.metrics.instance.oracles import blocks, ious

MAPS = npst.arrays(np.int16, (2, 3, 4), elements=st.sampled_from([0, 1, 2, 3, 7]))


def overlaps(pred, ref):
    return instance_overlaps(contingency(pred, ref))


def test_two_instances_worked_by_hand():
    o = overlaps(blocks((0, 6), (8, 12)), blocks((2, 9), (20, 24)))
    assert o.pred_sizes.tolist() == [6, 4]
    assert o.ref_sizes.tolist() == [7, 4]
    assert o.index.tolist() == [[0, 0], [1, 0]]
    assert o.iou.tolist() == [4 / 9, 1 / 10]
    assert o.dice.tolist() == [8 / 13, 2 / 11]


@given(MAPS, MAPS)
def test_every_pair_as_mask_by_mask(pred, ref):
    o = overlaps(pred, ref)
    dense = np.zeros((o.n_pred, o.n_ref))
    dense[tuple(o.index.T)] = o.iou
    np.testing.assert_array_equal(dense, ious(pred, ref))
    assert (o.iou > 0).all()
    np.testing.assert_allclose(o.dice, 2 * o.iou / (1 + o.iou))


@given(MAPS, MAPS)
def test_a_part_of_the_instances_is_what_a_map_of_these_alone_has_but_for_its_numbers(pred, ref):
    o = overlaps(pred, ref)
    part = o.only(o.pred_ids != 2, o.ref_ids < 3)
    alone = overlaps(np.where(pred == 2, 0, pred), np.where(ref < 3, ref, 0))
    for name in ("pred_ids", "ref_ids", "pred_sizes", "ref_sizes", "index", "shared"):
        np.testing.assert_array_equal(getattr(part, name), getattr(alone, name), name)


@pytest.mark.parametrize(("pred", "ref", "status"), [(0, 0, "both_empty"), (0, 1, "pred_empty"), (1, 0, "ref_empty")])
def test_empty_maps(pred, ref, status):
    o = overlaps(np.full((2, 2, 2), pred), np.full((2, 2, 2), ref))
    assert (o.status, o.n_pred, o.n_ref, len(o.index)) == (status, pred, ref, 0)


def test_negative_numbers_are_refused():
    with pytest.raises(ValueError, match="numbered from 1 and 0 is background, got -1 in ref"):
        overlaps(np.zeros((1, 1, 2), int), np.array([[[-1, 0]]]))


def test_boxes_worked_by_hand():
    o = box_overlaps(np.array([[0, 0, 0, 2, 2, 2], [5, 5, 5, 6, 6, 6.5]]), np.array([[1, 0, 0, 3, 2, 2]]))
    assert o.index.tolist() == [[0, 0]]
    assert o.iou.tolist() == [4 / 12]
    assert o.pred_sizes.tolist() == [8, 1.5]


def test_boxes_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"rows of \(low, low, low, high, high, high\), got ref"):
        box_overlaps(np.zeros((0, 6)), np.array([[1, 0, 0, 0, 2, 2]]))


@given(MAPS, st.booleans())
def test_centroids_are_means_of_indices(labels, fortran):
    values = np.setdiff1d(labels, 0).astype(np.int64)
    expected = [np.argwhere(labels == v).mean(0) * (0.5, 2, 3) for v in values]
    found = centroids_mm(np.asfortranarray(labels) if fortran else labels, values, (0.5, 2, 3))
    np.testing.assert_allclose(found, np.reshape(expected, (-1, 3)), rtol=1e-12)


def test_radius_of_the_sphere():
    assert sphere_radius_mm(4 / 3 * np.pi * 2.5**3) == pytest.approx(2.5)
