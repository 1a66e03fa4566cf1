"""What the server keeps is whole, and says how far it is."""

from __future__ import annotations

import json

import pytest
import torch

from medseg.errors import InputError
from medseg.federated.server_state import (
    FAILURE,
    ROUNDS,
    STATE,
    ServerState,
    add_round,
    load_state,
    not_finite,
    read_rounds,
    save_state,
    write_failure,
)


def test_it_is_read_back(tmp_path):
    assert load_state(tmp_path) is None
    said = ServerState(3, {"a": torch.rand(2, 3)}, {"first/a": torch.rand(2, 3)}, {"a": torch.rand(2, 3)})
    save_state(tmp_path, said)
    found = load_state(tmp_path)
    assert found.rounds == 3
    for part in ("state", "moments", "control"):
        before, after = getattr(said, part), getattr(found, part)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_damaged_one_is_refused(tmp_path):
    save_state(tmp_path, ServerState(1, {"a": torch.rand(20)}))
    path = tmp_path / STATE
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match=f"MS-J016 .*{STATE}"):
        load_state(tmp_path)


def test_a_round_that_is_done_again_replaces_itself_and_later_ones(tmp_path):
    assert read_rounds(tmp_path) == []
    for number in range(4):
        add_round(tmp_path, {"round": number, "sites": {"Zürich": {}}})
    add_round(tmp_path, {"round": 1, "again": True})
    assert [(row["round"], row.get("again")) for row in read_rounds(tmp_path)] == [(0, None), (1, True)]
    assert "Zürich" in (tmp_path / ROUNDS).read_text(encoding="utf-8")


def test_failures_are_told(tmp_path):
    write_failure(tmp_path, InputError("MS-J018", "too few", mend="bring them back"))
    assert json.loads((tmp_path / FAILURE).read_text()) == {
        "code": "MS-J018",
        "what": "too few",
        "mend": "bring them back",
    }
    write_failure(tmp_path, ValueError("odd"))
    assert json.loads((tmp_path / FAILURE).read_text())["what"] == "ValueError: odd"


@pytest.mark.parametrize("part", ["state", "moments", "control"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_found_in_every_part(part, value):
    sound = {"state": {"a": torch.ones(2)}, "moments": {"first/a": torch.ones(2)}, "control": {"a": torch.ones(2)}}
    assert not_finite(ServerState(1, **sound)) == ""
    assert not_finite(ServerState(1, **sound | {part: {"a": torch.tensor([1.0, value])}})) == f"{part} a"
    sealed = {"bytes": torch.zeros(3, dtype=torch.uint8)}
    assert not_finite(ServerState(1, sealed)) == ""
