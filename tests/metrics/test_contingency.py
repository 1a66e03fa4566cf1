import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medseg.metrics import contingency as module
from medseg.metrics.contingency import contingency
from medseg.metrics.runs import runs

I64 = np.iinfo(np.int64)


def by_looking(pred, ref):
    """{(p, r): voxels}, and per map {value: box}, one value at a time."""
    pairs = {
        (p, r): int(((pred == p) & (ref == r)).sum())
        for p in np.unique(pred).tolist()
        for r in np.unique(ref).tolist()
        if ((pred == p) & (ref == r)).any()
    }
    boxes = [
        {v: [[int(x.min()), int(x.max()) + 1] for x in np.nonzero(a == v)] for v in np.unique(a).tolist()}
        for a in (pred, ref)
    ]
    return pairs, *boxes


def as_found(table):
    values = [table.pred_values.tolist(), table.ref_values.tolist()]
    pairs = {(values[0][p], values[1][r]): n for (p, r), n in zip(table.index.tolist(), table.count, strict=True)}
    boxes = [
        dict(zip(v, b.tolist(), strict=True)) for v, b in zip(values, (table.pred_boxes, table.ref_boxes), strict=True)
    ]
    return pairs, *boxes


def agrees(pred, ref):
    table = contingency(pred, ref)
    assert as_found(table) == by_looking(pred, ref)
    for values in (table.pred_values, table.ref_values):
        assert (np.diff(values.astype(object)) > 0).all()
    assert table.index.tolist() == sorted(table.index.tolist())
    assert table.dense.sum() == pred.size
    assert table.pred_sizes.tolist() == table.dense.sum(1).tolist()
    assert table.ref_sizes.tolist() == table.dense.sum(0).tolist()
    return table


SHAPES = st.tuples(*[st.integers(1, 6)] * 2, st.integers(1, 40))


@st.composite
def maps(draw):
    shape = draw(SHAPES)
    few = st.sampled_from([0, 0, 0, 1, 2, 9])
    return tuple(
        np.asarray(np.repeat(draw(arrays(np.uint8, shape, elements=few)), draw(st.integers(1, 9)), 2)[:, :, : shape[2]])
        for _ in range(2)
    )


@settings(max_examples=200)
@given(maps(), st.sampled_from(["u1", "bool", "i2"]), st.sampled_from(["u1", "i2"]), *[st.sampled_from("CF")] * 2)
def test_equals_looking_at_every_value(both, p_type, r_type, p_order, r_order):
    pred, ref = (m.astype(t, order=o) for m, t, o in zip(both, (p_type, r_type), (p_order, r_order), strict=True))
    agrees(pred, ref)


@pytest.mark.parametrize("dtype", ["i1", "u2", "i4", "u4", "i8", ">i2", ">u4"])
def test_every_integer_type(dtype):
    rng = np.random.default_rng(0)
    low = -5 if np.dtype(dtype).kind == "i" else 0
    ref = np.repeat(rng.integers(low, 6, (4, 5, 9)), 5, 2).astype(dtype)
    agrees(np.roll(ref, 3, 2), ref)


@pytest.mark.parametrize(
    "values",
    [(-128, -1, 0, 127), (0, 30_000, -30_000), (0, 10**6, 10**9), (I64.min, -1, 0, I64.max), (I64.max - 1, I64.max)],
)
@pytest.mark.parametrize("cells", [None, 4])
def test_values_far_apart(values, cells, monkeypatch):
    if cells:  # so few that pairs are sorted
        monkeypatch.setattr(module, "_CELLS", cells)
    rng = np.random.default_rng(0)
    pred, ref = rng.choice(np.array(values), (2, 4, 5, 23))
    agrees(pred, ref)
    agrees(np.asfortranarray(pred), (ref == values[-1]).astype(np.uint8))


def test_so_many_values_that_pairs_are_sorted():
    pred = np.arange(16 * 16 * 16).reshape(16, 16, 16) * 1000
    ref = np.roll(pred, 5)
    table = contingency(pred, ref)
    assert len(table.pred_values) == len(table.ref_values) == 4096
    assert table.count.tolist() == [1] * 4096
    assert (
        table.pred_values[table.index[:, 0]] // 1000 == (table.ref_values[table.index[:, 1]] // 1000 + 5) % 4096
    ).all()
    assert table.pred_boxes[-1].tolist() == [[15, 16]] * 3


def test_boxes_of_stretches_over_several_rows_and_planes():
    pred = np.zeros((3, 4, 5), np.uint8)
    pred.flat[18:42] = 1  # from the end of plane 0 to the start of plane 2
    pred.flat[3:9] = 2
    table = agrees(pred, np.zeros_like(pred))
    assert table.pred_boxes[1].tolist() == [[0, 3], [0, 4], [0, 5]]
    assert table.pred_boxes[2].tolist() == [[0, 1], [0, 2], [0, 5]]


def test_mixed_orders_cost_at_most_one_copy():
    rng = np.random.default_rng(0)
    ref = rng.integers(0, 3, (30, 31, 32)).astype(np.uint8)
    for pred in (np.asfortranarray(ref), np.repeat(ref, 2, 0)[::2]):
        for other in (ref, np.asfortranarray(ref)):
            from medseg.metrics.runs import in_one_order

            a, b, _ = in_one_order(pred, other)
            assert np.shares_memory(a, pred) or np.shares_memory(b, other)
            assert contingency(pred, other).count.tolist() == contingency(ref, ref).count.tolist()


@pytest.mark.parametrize("shape", [(0, 3, 3), (3, 0, 3), (3, 3, 0)])
def test_no_voxels(shape):
    table = contingency(np.zeros(shape, np.uint8), np.zeros(shape, np.int32))
    assert len(table.pred_values) == len(table.ref_values) == len(table.count) == 0
    assert table.dense.shape == (0, 0)


def test_refusals():
    whole = np.zeros((2, 3, 4), np.uint8)
    with pytest.raises(ValueError, match=r"pred \(2, 3, 4\) and ref \(2, 3, 5\)"):
        contingency(whole, np.zeros((2, 3, 5), np.uint8))
    with pytest.raises(ValueError, match=r"one shape \(I, J, K\)"):
        contingency(whole[0], whole[0])
    with pytest.raises(TypeError, match="got ref of type float32"):
        contingency(whole, whole.astype(np.float32))
    with pytest.raises(ValueError, match="more than 64-bit integers hold"):
        contingency(np.full((1, 1, 1), 2**63, np.uint64), np.zeros((1, 1, 1), np.uint8))


@settings(max_examples=200)
@given(maps(), st.booleans())
def test_runs_are_the_label_map(both, zero):
    array = both[0]
    found = runs(array, zero=zero)
    drawn = np.full(array.shape, 99, np.uint8)
    for n, value in enumerate(found.values):
        for m in range(found.bounds[n], found.bounds[n + 1]):
            i, j = divmod(found.row[m], found.width)
            part = drawn[i, j, found.start[m] : found.stop[m]]
            assert (part == 99).all()
            part[:] = value
    assert (np.where(drawn == 99, 0, drawn) == array).all()
    assert zero or (drawn[array == 0] == 99).all()
    assert found.values.tolist() == [v for v in np.unique(array).tolist() if v or zero]


@pytest.mark.parametrize(
    "view", [lambda a: a[..., :1], lambda a: np.broadcast_to(a[0, 0, 0], a.shape), lambda a: a[::-1]]
)
def test_maps_without_memory_of_their_own_count_like_their_copies(view):
    array = view(np.random.default_rng(0).integers(0, 3, (4, 8, 2)).astype(np.uint8))
    found, wanted = contingency(array, array), contingency(array.copy(), array.copy())
    assert all(np.array_equal(getattr(found, name), getattr(wanted, name)) for name in vars(wanted))
    assert runs(array, zero=True).bounds.tolist() == runs(array.copy(), zero=True).bounds.tolist()
