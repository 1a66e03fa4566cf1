import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from medseg.metrics.contingency import contingency
from medseg.metrics.instance import Instance, instance_overlaps, match_optimal, pair_hd95, per_instance
from medseg.metrics.instance.per_instance import renumbered
from medseg.metrics.surface import surface_metrics
from tests.metrics.instance.oracles import blocks


def matched(pred, ref):
    return match_optimal(instance_overlaps(contingency(pred, ref)), 0.5, strict=False)


def test_a_pair_a_miss_and_a_superfluous_one():
    pred, ref = blocks((20, 22), (0, 4)), blocks((0, 5), (12, 15))
    rows = per_instance(matched(pred, ref), voxel_mm3=2.0, hd95_mm={1: 3.0})
    assert rows == (
        Instance(1, 2, "ok", 4 / 5, 8 / 9, 3.0, 10.0, 8.0),
        Instance(2, None, "pred_empty", 0.0, 0.0, np.inf, 6.0, 0.0),
        Instance(None, 1, "ref_empty", 0.0, 0.0, np.inf, 0.0, 4.0),
    )
    assert {row.hd95_mm for row in per_instance(matched(pred, ref), voxel_mm3=2.0)} == {None}


@pytest.mark.parametrize("definition", ["border", "surfel", "pooled"])
def test_pairs_have_the_distance_of_their_two_masks(definition):
    rng = np.random.default_rng(0)
    ref = np.kron(rng.integers(0, 6, (2, 3, 3)) * 50, np.ones((3, 3, 4), int))
    pred = np.roll(np.select([ref == 50, ref == 150, ref == 250], [7, 3, 1]), 1, 2)
    matching = match_optimal(instance_overlaps(contingency(pred, ref)), 0.1, strict=False)
    found = pair_hd95(pred, ref, matching, spacing_mm=(2, 1, 0.5), definition=definition)
    assert sorted(found) == [50, 150, 250]
    for number, own in ((50, 7), (150, 3), (250, 1)):
        alone = surface_metrics(pred == own, ref == number, spacing_mm=(2, 1, 0.5), labels=[1], definition=definition)
        assert found[number] == pytest.approx(alone[1].percentiles_mm[95])


def test_without_pairs_nothing_is_measured():
    ref = blocks((0, 2))
    assert pair_hd95(blocks(), ref, matched(blocks(), ref), spacing_mm=(1, 1, 1), definition="border") == {}


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
