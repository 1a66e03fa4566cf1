"""The server's side of plain updates; the rounds around it are in `test_controller`, its arithmetic in `test_aggregation`."""

from __future__ import annotations

import math

import pytest
import torch
from nvflare.apis.dxo import DXO, DataKind

from medseg.errors import InputError
from medseg.federated.algorithm import Algorithm, ServerOptimiser
from medseg.federated.exchange import Update, UpdateError, update_to_dxo, with_control
from medseg.federated.plain_sums import PlainSums
from medseg.federated.privacy.encryption import EncryptionError
from medseg.federated.privacy.packing import LAYOUT, PackingError, pack
from medseg.federated.privacy.sealing import KEY
from medseg.federated.server_state import ServerState, not_finite

SENT = {"weight": torch.zeros(2, 2), "running_mean": torch.zeros(2)}


def sums(**said) -> PlainSums:
    return PlainSums(Algorithm("test", **said), SENT, {"weight"})


def change(value: float) -> dict[str, torch.Tensor]:
    return {name: torch.full_like(one, value) for name, one in SENT.items()}


def test_buffers_are_averaged_whatever_the_optimiser():
    found = sums(server=ServerOptimiser("momentum", learning_rate=0.5))
    found.message(found.begin(), training=True)
    updates = {"a": Update(change(1.0), 3, 1), "b": Update(change(3.0), 1, 1)}
    share = found.shares(updates)
    assert share == {"a": 0.75, "b": 0.25}
    after, row = found.after(found.begin(), updates, share, 2)
    assert after.state["running_mean"].tolist() == [1.5, 1.5]
    assert after.state["weight"].tolist() == [[0.75, 0.75]] * 2
    assert row["drift"] == pytest.approx(1.5 * math.sqrt(6))


def test_control_variates_are_of_what_learns():
    found = sums(control_variates=True)
    state, _ = found.message(found.begin(), training=True)
    assert set(state) == {"weight", "running_mean", "control/weight"}
    assert "control/weight" not in found.message(found.begin(), training=False)[0]
    found.message(found.begin(), training=True)
    sent = update_to_dxo(Update(with_control(change(1.0), {"weight": torch.ones(2, 2)}), 3, 1))
    assert found.update_of(sent).cases == 3


def test_a_packed_update_is_unpacked_and_an_encrypted_one_refused():
    found = sums()
    found.message(found.begin(), training=True)
    dxo = update_to_dxo(Update(change(0.5), 3, 1))
    packed, _ = pack(dxo.data, "fp16")
    dxo.data = dict(packed.data)
    dxo.meta |= packed.meta
    assert all(torch.equal(value, change(0.5)[name]) for name, value in found.update_of(dxo).diff.items())
    with pytest.raises(EncryptionError, match="MS-J145"):
        found.update_of(DXO(DataKind.WEIGHTS, data=change(1.0), meta={KEY: "0" * 16}))


def test_a_state_of_another_network_or_an_encrypted_one_is_refused(tmp_path):
    found = sums()
    found.require_fitting(found.begin(), tmp_path)
    with pytest.raises(InputError, match=r"MS-J016[\s\S]*another network"):
        found.require_fitting(ServerState(1, {"x": torch.zeros(2)}), tmp_path)
    with pytest.raises(InputError, match=r"MS-J016[\s\S]*encrypted"):
        found.require_fitting(ServerState(1, {"x": torch.zeros(2)}, said={KEY: "k"}), tmp_path)


@pytest.mark.parametrize("layout", [[["weight", [10**13]]], [["weight", [2, 2]]], [["weight", [2, 2]], ["other", [2]]]])
def test_a_layout_of_another_network_takes_no_memory(layout):
    found = sums()
    found.message(found.begin(), training=True)
    packed, _ = pack(change(0.5), "top_k")
    dxo = update_to_dxo(Update(packed.data, 3, 1))
    dxo.meta |= {**packed.meta, LAYOUT: layout}
    with pytest.raises(PackingError, match=r"MS-J132[\s\S]*another network"):
        found.update_of(dxo)
    dxo.meta |= packed.meta
    assert found.update_of(dxo).diff["weight"].shape == (2, 2)


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ({"server": ServerOptimiser("yogi", learning_rate=0.1)}, 1e22),
        ({"server": ServerOptimiser("adam", learning_rate=0.1)}, 1e22),
        ({"server": ServerOptimiser(learning_rate=10.0)}, 3e38),
        ({"server": ServerOptimiser("momentum", learning_rate=10.0)}, 3e38),
    ],
)
def test_a_state_that_is_not_finite_is_no_state(said, value):
    found = sums(**said)
    now = found.begin()

    def after(now, value):
        found.message(now, training=True)
        updates = {
            site: found.update_of(update_to_dxo(Update(change(number), 1, 1)))
            for site, number in (("a", 0.1), ("b", value))
        }
        return found.after(now, updates, found.shares(updates), 1)[0]

    now = after(after(now, 0.2), value / 1e10)
    assert not_finite(now) == ""
    with pytest.raises(UpdateError, match=r"MS-J007[\s\S]*site b"):
        after(now, value)


def test_variates_whose_sum_is_not_finite_are_no_state():
    found = sums(control_variates=True)
    found.message(found.begin(), training=True)
    sent = with_control(change(0.1), {"weight": torch.full((2, 2), 3e38)})
    updates = {site: found.update_of(update_to_dxo(Update(sent, 1, 1))) for site in "ab"}
    with pytest.raises(UpdateError, match=r"MS-J007[\s\S]*control weight"):
        found.after(found.begin(), updates, found.shares(updates), 2)


KINDS = {
    "fedavg": {},
    "scaffold": {"control_variates": True},
    "momentum": {"server": ServerOptimiser("momentum")},
    "adam": {"server": ServerOptimiser("adam")},
}


@pytest.mark.parametrize("begun", KINDS)
@pytest.mark.parametrize("resumed", KINDS)
def test_a_state_of_another_algorithm_is_refused_both_ways(tmp_path, begun, resumed):
    first, then = sums(**KINDS[begun]), sums(**KINDS[resumed])
    now = first.begin()
    state, _ = first.message(now, training=True)
    updates = {"a": Update({name: torch.ones_like(value) for name, value in state.items()}, 1, 1)}
    after, _ = first.after(now, updates, {"a": 1.0}, 1)
    if begun == resumed:
        then.require_fitting(now, tmp_path)
        then.require_fitting(after, tmp_path)
    else:
        with pytest.raises(InputError, match=r"MS-J016[\s\S]*another algorithm"):
            then.require_fitting(after, tmp_path)
    if "scaffold" in (begun, resumed) and begun != resumed:  # before the first round there are no moments yet
        with pytest.raises(InputError, match="MS-J016"):
            then.require_fitting(now, tmp_path)
