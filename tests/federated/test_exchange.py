"""What travels, and what is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from medseg.federated import exchange
from medseg.federated.exchange import Update, UpdateError


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.Conv3d(4, 2, 1).double())


def test_floats_travel_and_counters_and_personal_entries_stay(network):
    state = network.state_dict()
    sent = exchange.travelling(state, [r"^1\."])
    assert sorted(sent) == ["0.bias", "0.weight", "2.bias", "2.weight"]
    assert {value.dtype for value in sent.values()} == {torch.float32}
    assert "1.num_batches_tracked" not in exchange.travelling(state)
    sent["0.bias"] += 1  # a copy: the network stays as it is
    assert torch.equal(state["0.bias"], network.state_dict()["0.bias"])
    assert not torch.equal(state["0.bias"], sent["0.bias"])


def test_what_is_received_goes_back_into_the_network(network):
    sent = exchange.travelling(network.state_dict(), [r"^1\."])
    moved = {name: value + 1 for name, value in sent.items()}
    whole = exchange.completed(network.state_dict(), moved)
    network.load_state_dict(whole)
    assert whole["2.weight"].dtype == torch.float64
    assert whole["1.num_batches_tracked"].dtype == torch.int64
    assert exchange.difference(network.state_dict(), sent).keys() == sent.keys()
    for value in exchange.difference(network.state_dict(), sent).values():
        assert torch.allclose(value, torch.ones_like(value), atol=1e-6)


@given(st.floats(-3, 3, width=32), st.floats(0, 2, width=32))
def test_adding_undoes_the_difference(shift, factor):
    before = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(1)}
    after = {"a": before["a"] * 2 + shift, "b": before["b"] - shift}
    diff = exchange.difference(after, before)
    back = exchange.added(before, diff)
    assert all(torch.allclose(back[name], after[name], atol=1e-5) for name in before)
    part = exchange.added(before, {"a": diff["a"]}, factor)
    assert torch.equal(part["b"], before["b"])
    assert torch.allclose(part["a"], before["a"] + factor * diff["a"], atol=1e-5)


def test_control_variates_travel_beside_the_weights():
    weights, control = {"a": torch.ones(2)}, {"a": torch.zeros(2)}
    both = exchange.with_control(weights, control)
    assert sorted(both) == ["a", "control/a"]
    found = exchange.without_control(both)
    assert found[0].keys() == found[1].keys() == {"a"}
    assert float(found[1]["a"].sum()) == 0


EXPECTED = {"a": (2, 3), "b": (1,)}


@pytest.mark.parametrize(
    ("diff", "code", "said"),
    [
        ({}, "MS-J001", "empty"),
        ({"a": torch.ones(2, 3)}, "MS-J002", "missing: b"),
        ({"a": torch.ones(2, 3), "b": torch.ones(1), "c": torch.ones(1)}, "MS-J002", "unknown: c"),
        ({"a": torch.ones(3, 2), "b": torch.ones(1)}, "MS-J003", r"a \(3, 2\) instead of \(2, 3\)"),
        ({"a": torch.ones(2, 3), "b": torch.ones(1, dtype=torch.int64)}, "MS-J004", "tensor: b"),
        ({"a": torch.ones(2, 3), "b": [1.0]}, "MS-J004", "tensor: b"),
        ({"a": torch.full((2, 3), 1e300, dtype=torch.float64), "b": torch.ones(1)}, "MS-J004", "float32 tensor: a"),
        ({"a": torch.ones(2, 3), "b": torch.ones(1).half()}, "MS-J004", "tensor: b"),
        ({"a": torch.ones(2, 3), "b": torch.ones(1).to(torch.float8_e4m3fn)}, "MS-J004", "tensor: b"),
        ({"a": torch.ones(2, 3) / 0, "b": torch.ones(1)}, "MS-J005", "finite: a"),
        ({"a": torch.full((2, 3), torch.nan), "b": torch.ones(1)}, "MS-J005", "finite: a"),
    ],
)
def test_what_must_not_be_averaged_is_refused(diff, code, said):
    with pytest.raises(UpdateError, match=f"{code} [\\s\\S]*{said}"):
        exchange.check_update(diff, EXPECTED)


def test_a_sound_update_passes():
    exchange.check_update({"a": torch.ones(2, 3), "b": torch.ones(1)}, EXPECTED)


def test_nvflare_carries_an_update_and_back():
    update = Update({"a": torch.ones(2)}, 12, 30, {"dice": 0.5, "loss": float("nan"), "name": "hippo_012"})  # type: ignore[dict-item]
    dxo = exchange.update_to_dxo(update)
    found = exchange.dxo_to_update(dxo)
    assert (found.cases, found.steps) == (12, 30)
    assert found.metrics == {"dice": 0.5}  # only numbers travel, and only finite ones
    assert torch.equal(found.diff["a"], update.diff["a"])


def test_other_kinds_and_odd_weights_are_refused():
    state = exchange.state_to_dxo({"a": torch.ones(2)}, medseg_round=3)
    assert state.get_meta_prop(exchange.ROUND) == 3
    with pytest.raises(UpdateError, match="MS-J001"):
        exchange.dxo_to_update(state)
    for cases in (0, -1, 2.5, None, True):
        dxo = exchange.update_to_dxo(Update({"a": torch.ones(2)}, 1, 1))
        dxo.set_meta_prop(exchange.CASES, cases)
        with pytest.raises(UpdateError, match="MS-J006"):
            exchange.dxo_to_update(dxo)
