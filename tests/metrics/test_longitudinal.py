from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from medseg.metrics.longitudinal import change, components


def spots(*boxes):
    out = np.zeros((20, 20, 20), bool)
    for start, stop in boxes:
        out[tuple(map(slice, start, stop))] = True
    return out


def test_by_hand():
    # One lesion stays, one grows from 8 to 27 voxels, one vanishes, one is new, two merge into one of the same volume.
    stays = ((0, 0, 0), (2, 2, 2))
    before = spots(
        stays, ((5, 5, 5), (7, 7, 7)), ((15, 0, 0), (17, 2, 2)), ((0, 15, 15), (2, 17, 17)), ((3, 15, 15), (5, 17, 17))
    )
    after = spots(stays, ((5, 5, 5), (8, 8, 8)), ((15, 15, 0), (16, 16, 1)), ((0, 15, 15), (5, 17, 17)))
    found = change(before, after, voxel_ml=0.001)
    assert (found.new, found.vanished, found.growing, found.shrinking, found.stable) == (1, 1, 1, 0, 2)
    assert found.before_ml == pytest.approx(0.040)
    assert dict(found.rows())["volume_change_ml"] == pytest.approx((8 + 27 + 1 + 20 - 40) / 1000)


def test_a_lesion_that_splits_is_one_group_and_not_new():
    before = spots(((0, 0, 0), (6, 2, 2)))
    after = spots(((0, 0, 0), (2, 2, 2)), ((4, 0, 0), (6, 2, 2)))
    found = change(before, after, voxel_ml=0.001)
    assert (found.new, found.vanished, found.shrinking, found.stable) == (0, 0, 1, 0)


@given(hnp.arrays(bool, (2, 5, 5, 5)))
@settings(deadline=None)
def test_turned_over_new_is_vanished(masks):
    one, other = change(*masks, voxel_ml=1.0), change(*masks[::-1], voxel_ml=1.0)
    assert (one.new, one.vanished) == (other.vanished, other.new)
    same = change(masks[0], masks[0], voxel_ml=1.0)
    assert (same.new, same.vanished, same.growing, same.shrinking) == (0, 0, 0, 0)
    assert same.stable == ndimage.label(masks[0], np.ones((3, 3, 3)))[1]


def test_nothing_in_either_scan():
    found = change(spots(), spots(), voxel_ml=1.0)
    assert (found.before_ml, found.after_ml, found.new, found.vanished, found.stable) == (0, 0, 0, 0, 0)


def test_small_components_are_left_out_and_the_others_numbered_anew():
    mask = spots(((0, 0, 0), (1, 1, 1)), ((5, 5, 5), (7, 7, 7)), ((10, 10, 10), (12, 12, 12)))
    labels = components(mask, smallest=2)
    assert sorted(np.unique(labels)) == [0, 1, 2]
    assert labels[0, 0, 0] == 0
    assert change(mask, spots(), voxel_ml=0.001, minimum_mm3=2).vanished == 2


def test_two_shapes():
    with pytest.raises(ValueError, match="of one shape"):
        change(np.zeros((2, 2, 2), bool), np.zeros((2, 2, 3), bool), voxel_ml=1.0)
