"""Packed updates: nothing is lost but postponed, and what that is worth where training would go wrong without it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from medseg.federated.privacy.packing import (
    LAYOUT,
    PACKING,
    POSITIONS,
    VALUES,
    PackingError,
    flatten,
    pack,
    split,
    unpack,
)

numbers = st.one_of(st.floats(-6e4, 6e4, width=32), st.floats(-(2.0**-20), 2.0**-20, width=32), st.just(0.0))


@st.composite
def rounds(draw):
    """Some rounds' updates of one network."""
    names = draw(st.lists(st.sampled_from(["a", "b.weight", "c"]), min_size=1, max_size=3, unique=True))
    shapes = {name: draw(array_shapes(max_dims=3, max_side=4)) for name in names}
    tensors = {
        n: arrays(np.float32, s, elements=numbers).map(lambda x: torch.from_numpy(x.copy())) for n, s in shapes.items()
    }
    return [{n: draw(t) for n, t in tensors.items()} for _ in range(draw(st.integers(1, 3)))]


@given(rounds(), st.sampled_from(["fp16", "top_k"]), st.floats(0.01, 1.0))
def test_what_is_not_sent_is_kept_for_the_next_round_to_the_last_bit(updates, packing, keep):
    residual = None
    for update in updates:
        wanted = {n: v + residual[n] if residual else v for n, v in update.items()}
        if max(float(v.abs().max()) for v in wanted.values()) > 65504:
            return
        packed, residual = pack(update, packing, keep=keep, residual=residual)
        sent = unpack(packed.data, packed.meta)
        for name, value in wanted.items():
            assert torch.equal(sent[name] + residual[name], value)
            assert sent[name].dtype == residual[name].dtype == torch.float32
            assert sent[name].shape == value.shape


@given(rounds(), st.floats(0.01, 1.0))
def test_top_k_sends_the_largest(updates, keep):
    packed, _ = pack(updates[0], "top_k", keep=keep)
    flat, layout = flatten(updates[0])
    count = min(len(flat), max(1, round(keep * len(flat))))
    assert packed.data[POSITIONS].dtype == torch.int32
    assert packed.data[VALUES].dtype == torch.float16
    assert len(packed.data[POSITIONS]) == len(packed.data[VALUES]) == count
    threshold = np.sort(np.abs(flat.numpy()))[-count]  # an oracle that sorts everything
    assert bool((flat[packed.data[POSITIONS].long()].abs() >= float(threshold)).all())
    assert packed.meta[LAYOUT] == [[name, list(shape)] for name, shape in layout]


@given(rounds())
def test_flat_and_back(updates):
    flat, layout = flatten(updates[0])
    back = split(flat, layout)
    assert back.keys() == updates[0].keys()
    assert all(torch.equal(back[name], value) for name, value in updates[0].items())


def test_the_update_that_is_packed_stays_as_it_is():
    update = {"a": torch.linspace(-1, 1, 50)}
    before = update["a"].clone()
    for packing in ("fp16", "top_k"):
        _, residual = pack(update, packing)
        residual["a"] += 1
        assert torch.equal(update["a"], before)


def size(tensors) -> int:
    return sum(v.numel() * v.element_size() for v in tensors.values())


def test_the_sizes_that_the_configurations_name():
    update = {"a": torch.randn(100, 100, generator=torch.Generator().manual_seed(0))}
    assert size(pack(update, "fp16")[0].data) == size(update) / 2
    assert size(pack(update, "top_k", keep=0.1)[0].data) == pytest.approx(0.15 * size(update))


def test_small_changes_reach_the_server_in_half_precision_too():
    """2^-14 of one unit is lost in half precision at 16; kept from round to round it is not."""
    update = {"a": torch.tensor([16.0 + 2**-10])}
    lost, kept, residual = 0.0, 0.0, None
    for _ in range(16):
        lost += unpack(*_parts(pack(update, "fp16")[0]))["a"].item()
        packed, residual = pack(update, "fp16", residual=residual)
        kept += unpack(*_parts(packed))["a"].item()
    assert lost == 256.0
    assert kept == pytest.approx(256 + 16 * 2**-10, abs=2**-6)
    assert kept + residual["a"].item() == 256 + 16 * 2**-10


def _parts(packed):
    return packed.data, packed.meta


#: Beznosikov, Horvath, Richtarik and Safaryan 2020, example 1: three sites, f_i(x) = <a_i, x>^2 + |x|^2 / 4.
SITES = torch.tensor([[-3.0, 2.0, 2.0], [2.0, -3.0, 2.0], [2.0, 2.0, -3.0]])


def descend(feedback: bool, steps: int, rate: float) -> torch.Tensor:
    """Each site sends the largest entry of its step alone; the server averages. The optimum is 0."""
    x, kept = torch.ones(3), [None] * 3
    for _ in range(steps):
        moved = torch.zeros(3)
        for n, a in enumerate(SITES):
            step = {"x": -rate * (2 * (a @ x) * a + x / 2)}
            packed, residual = pack(step, "top_k", keep=1 / 3, residual=kept[n] if feedback else None)
            kept[n] = residual
            moved += unpack(packed.data, packed.meta)["x"] / 3
        x = x + moved
    return x


def test_with_feedback_a_small_problem_converges_and_without_it_runs_away():
    assert descend(feedback=False, steps=60, rate=0.02).norm() > 4  # it began at sqrt(3)
    assert descend(feedback=True, steps=1500, rate=0.02).norm() < 1e-3


@pytest.mark.parametrize("packing", ["fp16", "top_k"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 7e4])
def test_what_half_precision_cannot_hold_is_refused(packing, value):
    with pytest.raises(PackingError, match="MS-J130"):
        pack({"a": torch.tensor([1.0, value])}, packing)


def test_an_unknown_packing_and_a_foreign_residual_are_refused():
    with pytest.raises(PackingError, match=r"MS-J131 [\s\S]*fp16 or top_k"):
        pack({"a": torch.ones(2)}, "zip")
    with pytest.raises(PackingError, match="MS-J131"):
        pack({"a": torch.ones(2)}, "fp16", residual={"a": torch.ones(3)})


def test_what_was_not_packed_comes_back_as_it_is():
    update = {"a": torch.ones(2)}
    assert unpack(update, None) == update
    assert unpack(update, {}) == update


def test_only_what_is_expected_is_made_room_for():
    packed, _ = pack({"a": torch.arange(6.0).reshape(2, 3)}, "top_k", keep=0.5)
    assert unpack(packed.data, packed.meta, {"a": [2, 3]})["a"].shape == (2, 3)
    for layout in ([["a", [10**13]]], [["a", [6]]], [["b", [2, 3]]]):
        with pytest.raises(PackingError, match=r"MS-J132[\s\S]*another network"):
            unpack(packed.data, {**packed.meta, LAYOUT: layout}, {"a": [2, 3]})


def altered(**changes):
    packed, _ = pack({"a": torch.arange(6.0).reshape(2, 3)}, "top_k", keep=0.5)
    return {**packed.data, **changes.get("data", {})}, {**packed.meta, **changes.get("meta", {})}


HALF = torch.ones(3, dtype=torch.float16)


@pytest.mark.parametrize(
    "changes",
    [
        {"meta": {PACKING: "zip"}},
        {"meta": {PACKING: "fp16"}},
        {"meta": {LAYOUT: None}},
        {"meta": {LAYOUT: [["a", [2, -3]]]}},
        {"meta": {LAYOUT: [["a", [3]], ["a", [3]]]}},
        {"meta": {LAYOUT: [["a", [1]]]}},
        {"data": {"more": HALF}},
        {"data": {POSITIONS: torch.tensor([0, 1, 6], dtype=torch.int32)}},
        {"data": {POSITIONS: torch.tensor([-1, 1, 2], dtype=torch.int32)}},
        {"data": {POSITIONS: torch.tensor([1, 1, 2], dtype=torch.int32)}},
        {"data": {POSITIONS: torch.tensor([0, 1, 2])}},
        {"data": {POSITIONS: torch.zeros(0, dtype=torch.int32), VALUES: HALF[:0]}},
        {"data": {VALUES: HALF[:2]}},
        {"data": {VALUES: HALF.float()}},
        {"data": {VALUES: b"text"}},
    ],
)
def test_what_cannot_have_been_packed_is_refused(changes):
    with pytest.raises(PackingError, match="MS-J132"):
        unpack(*altered(**changes))
