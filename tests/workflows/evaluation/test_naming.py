from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medseg.errors import UsageError
from medseg.labels import LabelTable
from medseg.workflows.evaluation.naming import Structure, in_common, structures_of

TOTAL = LabelTable.from_json(
    [{"value": 5, "name": "Liver"}, {"value": 6, "name": "left_kidney"}, {"value": 7, "name": "aorta"}]
)
OURS = LabelTable.from_json(
    [{"value": 1, "name": "liver"}, {"value": 2, "name": "Left kidney"}, {"value": 3, "name": "spleen"}]
)


def test_two_tables_are_matched_by_name():
    assert structures_of(TOTAL, OURS, []) == [
        Structure("liver", (5,), (1,)),
        Structure("Left kidney", (6,), (2,)),
        Structure("spleen", (), (3,)),
        Structure("aorta", (7,), ()),
    ]


def test_one_table_names_both():
    for pair in ((None, OURS), (OURS, None)):
        assert structures_of(*pair, [1, 2, 3])[0] == Structure("liver", (1,), (1,))


def test_no_table_takes_every_value():
    assert structures_of(None, None, [4, 2, 4]) == [Structure("label 2", (2,), (2,)), Structure("label 4", (4,), (4,))]


@pytest.mark.parametrize(
    ("rule", "pred", "ref"),
    [
        (3, (3,), (3,)),
        ([1, 3], (1, 3), (1, 3)),
        ("liver", (5,), (1,)),
        (["liver", "left kidney"], (5, 6), (1, 2)),
        ({"pred": 9, "ref": [1, 2]}, (9,), (1, 2)),
        ({"pred": "aorta", "ref": "spleen"}, (7,), (3,)),
    ],
)
def test_wanted_structures(rule, pred, ref):
    assert structures_of(TOTAL, OURS, [], {"x": rule}) == [Structure("x", pred, ref)]


@pytest.mark.parametrize("rule", ["pancreas", None, True, 1.5])
def test_a_structure_that_is_not_there(rule):
    with pytest.raises(
        UsageError, match=r"MS-U160.*'x' is .* in the prediction, which knows Liver, left_kidney, aorta"
    ):
        structures_of(TOTAL, OURS, [], {"x": rule})


def test_nested_regions_by_hand():
    # whole = 1 + 2 + 3, core = 1 + 3 in the prediction; the reference calls them 10, 20 and 30.
    pred, ref = np.array([[[0, 1, 2, 3, 9]]], np.uint8), np.array([[[0, 10, 20, 20, 30]]], np.uint8)
    wanted = [Structure("whole", (1, 2, 3), (10, 20, 30)), Structure("core", (1, 3), (10, 30))]
    found = in_common(pred, ref, wanted)
    assert np.isin(found.pred, found.labels["whole"]).tolist() == [[[False, True, True, True, False]]]
    assert np.isin(found.pred, found.labels["core"]).tolist() == [[[False, True, False, True, False]]]
    assert np.isin(found.ref, found.labels["core"]).tolist() == [[[False, True, False, False, True]]]
    assert found.unknown == (("pred", 9, 1),)


values = st.lists(st.integers(0, 7), min_size=0, max_size=4, unique=True).map(tuple)


@given(
    st.tuples(*[hnp.arrays(dtype, (2, 3, 4), elements=st.integers(0, 7)) for dtype in (np.uint8, np.uint32)]),
    st.lists(st.tuples(values, values), min_size=1, max_size=4),
)
@settings(deadline=None)
def test_every_structure_keeps_its_voxels(maps, pairs):
    wanted = [Structure(str(n), *(tuple(v for v in side if v) for side in pair)) for n, pair in enumerate(pairs)]
    found = in_common(*maps, wanted)
    for structure in wanted:
        for array, common, own in zip(maps, (found.pred, found.ref), (structure.pred, structure.ref), strict=True):
            assert (np.isin(common, found.labels[structure.name]) == np.isin(array, own)).all()
    known = [{v for s in wanted for v in getattr(s, side)} for side in ("pred", "ref")]
    for side, array, mine in zip(("pred", "ref"), maps, known, strict=True):
        strange = {int(v) for v in np.unique(array) if v and v not in mine}
        assert {v for m, v, n in found.unknown if m == side and n == (array == v).sum()} == strange


def test_maps_in_common_values_are_not_copied():
    array = np.array([[[0, 1, 2]]], np.uint8)
    found = in_common(array, array, [Structure("a", (1,), (1,)), Structure("b", (2,), (2,))])
    assert found.pred is array
