"""The server's side of plain updates; the rounds around it are in `test_controller`, its arithmetic in `test_aggregation`."""

from __future__ import annotations

import math

import pytest
import torch
from nvflare.apis.dxo import DXO, DataKind

from medseg.errors import InputError
from medseg.federated.algorithm import Algorithm, ServerOptimiser
from medseg.federated.exchange import Update, update_to_dxo, with_control
from medseg.federated.plain_sums import PlainSums
from medseg.federated.privacy.encryption import EncryptionError
from medseg.federated.privacy.packing import pack
from medseg.federated.privacy.sealing import KEY
from medseg.federated.server_state import ServerState

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
