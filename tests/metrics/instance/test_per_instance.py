import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.spatial.distance import cdist

from medseg.metrics.contingency import contingency
from medseg.metrics.instance import Instance, instance_overlaps, match_optimal, pair_distances, per_instance
from medseg.metrics.instance.per_instance import renumbered
from tests.metrics.instance.oracles import blocks


def matched(pred, ref):
    return match_optimal(instance_overlaps(contingency(pred, ref)), 0.5, strict=False)


def centre_distances(pred, ref, numbers):
    """Stands for a surface metric: the distance of the two centres of mass in voxels."""
    return {n: float(cdist(*(np.argwhere(m == n).mean(0)[None] for m in (pred, ref)))[0, 0]) for n in numbers}


def test_a_pair_a_miss_and_a_superfluous_one():
    pred, ref = blocks((20, 22), (0, 4)), blocks((0, 5), (12, 15))
    rows = per_instance(matched(pred, ref), voxel_mm3=2.0, hd95_mm={1: 3.0})
    assert rows == (
        Instance(1, 2, "ok", 4 / 5, 8 / 9, 3.0, 10.0, 8.0),
        Instance(2, None, "pred_empty", 0.0, 0.0, np.inf, 6.0, 0.0),
        Instance(None, 1, "ref_empty", 0.0, 0.0, np.inf, 0.0, 4.0),
    )
    assert {row.hd95_mm for row in per_instance(matched(pred, ref), voxel_mm3=2.0)} == {None}


def test_all_pairs_are_measured_in_one_call_under_the_references_numbers():
    pred, ref = blocks((20, 22), (0, 4)), blocks((0, 6), (10, 12), (20, 22))
    calls = []

    def distances(*given):
        calls.append(given)
        return centre_distances(*given)

    assert pair_distances(pred, ref, matched(pred, ref), distances) == {1: 1.0, 3: 0.0}
    ((renamed, untouched, numbers),) = calls
    assert numbers == [1, 3]
    assert untouched is ref
    np.testing.assert_array_equal(renamed, np.select([pred == 1, pred == 2], [3, 1]))


def test_without_pairs_nothing_is_measured():
    assert pair_distances(blocks(), blocks((0, 2)), matched(blocks(), blocks((0, 2))), centre_distances) == {}


@given(
    npst.arrays(np.int32, (2, 3, 4), elements=st.sampled_from([0, 1, 5, 70_000])),
    st.permutations([1, 300, 5]),
    st.booleans(),
)
def test_renumbering(labels, new, fortran):
    labels = np.asfortranarray(labels) if fortran else labels
    out = renumbered(labels, np.array([70_000, 1, 5]), np.array(new))
    np.testing.assert_array_equal(out, np.select([labels == 70_000, labels == 1, labels == 5], new))
    assert out.dtype == np.uint16
    assert out.flags.f_contiguous == labels.flags.f_contiguous


def test_numbers_that_are_not_named_vanish():
    out = renumbered(np.array([[[1, 2, 3, 0]]]), np.array([3]), np.array([9]))
    assert out.tolist() == [[[0, 0, 9, 0]]]
    assert not renumbered(np.ones((2, 2, 2), int), np.array([], int), np.array([], int)).any()


def test_distances_must_name_every_pair():
    pred = blocks((0, 4))
    with pytest.raises(KeyError):
        pair_distances(pred, pred, matched(pred, pred), lambda *_: {})
