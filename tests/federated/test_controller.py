"""The server's rounds with sites that are functions: means against numpy, and every way in which a site can fail."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.shareable import Shareable, make_reply

from medseg.bundle.weights import read_weights
from medseg.federated.algorithm import Algorithm, ServerOptimiser
from medseg.federated.exchange import CASES, Update, travelling, update_to_dxo, with_control, without_control
from medseg.federated.initial import initial_state
from medseg.federated.plain_sums import PlainSums
from medseg.federated.server_state import load_state, read_rounds


def how_of(**said):
    return Algorithm(
        "test",
        **{"rounds": 2, "local_epochs": None, "local_steps": 1, "quorum": 2, "deadline_s": 2.0, "grace_s": 0.5, **said},
    )


def site(shift, cases, *, control=0.0, seen=None, scores=None):
    """A site whose weights move by `shift` in every round."""

    def answer(task, dxo):
        weights, c = without_control(dxo.data)
        if seen is not None:
            seen.append((task, {name: value.clone() for name, value in dxo.data.items()}))
        if task == "validate":
            return DXO(DataKind.METRICS, data=scores or {"val_mean_dice": 0.5}).to_shareable()
        diff = {name: torch.full_like(value, shift) for name, value in weights.items()}
        changes = {name: torch.full_like(value, control) for name, value in c.items()}
        update = Update(with_control(diff, changes), cases, 1, {"loss": 1.0, "val_mean_dice": 0.25})
        return update_to_dxo(update).to_shareable()

    return answer


def moved(folder, recipe):
    """By how much every entry moved since the start: one number, the same everywhere."""
    before, state = travelling(initial_state(recipe).state), load_state(folder)
    found = np.concatenate([(state.state[name] - before[name]).numpy().ravel() for name in before])
    assert np.ptp(found) < 1e-5
    return float(found.mean())


def test_the_mean_is_weighted_by_cases_with_a_cap(server, small_recipe):
    folder, told = server(how_of(share_cap=0.5), {"a": site(0.1, 90), "b": site(0.4, 5), "c": site(0.8, 5)})
    assert told == []
    assert moved(folder, small_recipe) == pytest.approx(2 * (0.5 * 0.1 + 0.25 * 0.4 + 0.25 * 0.8), abs=1e-6)
    rows = read_rounds(folder)
    assert [row["round"] for row in rows] == [0, 1, 2]
    assert {name: one["share"] for name, one in rows[0]["sites"].items()} == {"a": 0.5, "b": 0.25, "c": 0.25}
    count = sum(value.numel() for value in load_state(folder).state.values())
    assert rows[0]["drift"] == pytest.approx(0.35 * math.sqrt(count), rel=1e-4)
    assert {one["outcome"] for one in rows[2]["sites"].values()} == {"tested"}
    assert list((folder / "training").glob("events.*"))
    for place in (folder, folder.parents[1] / "job" / "medseg"):  # what NVFLARE keeps of the job has it too
        weights = read_weights(place / "global" / "models" / "model.safetensors")
        assert all(torch.equal(weights[name], value.half()) for name, value in load_state(folder).state.items())
        assert (place / "rounds.jsonl").is_file()


def test_the_servers_adam_is_the_papers(server, small_recipe):
    how = how_of(server=ServerOptimiser("adam", learning_rate=0.1))
    folder, _ = server(how, {"a": site(0.2, 1), "b": site(0.4, 1)})
    m, v, w = 0.0, 1e-6, 0.0
    for _ in range(2):
        m, v = 0.9 * m + 0.1 * 0.3, 0.99 * v + 0.01 * 0.09
        w += 0.1 * m / (math.sqrt(v) + 1e-3)
    assert moved(folder, small_recipe) == pytest.approx(w, rel=1e-4)
    assert {name.split("/")[0] for name in load_state(folder).moments} == {"first", "second"}


def test_scaffolds_variate_travels_and_moves(server):
    seen = []
    how = how_of(control_variates=True)
    folder, _ = server(how, {"a": site(0.1, 1, control=0.2, seen=seen), "b": site(0.1, 1, control=0.4)})
    assert all(float(value.mean()) == pytest.approx(0.6) for value in load_state(folder).control.values())
    first, second, last = seen
    assert {float(value.abs().max()) for value in without_control(first[1])[1].values()} == {0.0}
    assert all(torch.allclose(value, torch.tensor(0.3)) for value in without_control(second[1])[1].values())
    assert last[0] == "validate"
    assert without_control(last[1])[1] == {}


#: What a site answers instead of an update.
REPLIES = {
    "error": lambda: make_reply(ReturnCode.EXECUTION_EXCEPTION),
    "other bundle": lambda: make_reply(ReturnCode.MODEL_UNRECOGNIZED),
    "no dxo": Shareable,
    "missing": lambda: None,
}
#: What is wrong with one entry of an update: (name, value) -> the entry instead of it.
ENTRIES = {
    "nan": lambda name, value: (name, value * math.nan),
    "shape": lambda name, value: (name, value.flatten()[:1]),
    "name": lambda name, value: ("other", value),
    "numpy": lambda name, value: (name, value.numpy()),
    "double": lambda name, value: (name, torch.full_like(value, 1e300, dtype=torch.float64)),
    "meta": lambda name, value: (name, value.to("meta")),
}


def broken(kind):
    """A site that sends what must not be averaged."""

    def answer(task, dxo):
        if task == "validate":
            return make_reply(ReturnCode.EXECUTION_EXCEPTION)
        if kind in REPLIES:
            return REPLIES[kind]()
        diff = {name: torch.zeros_like(value) for name, value in without_control(dxo.data)[0].items()}
        if kind in ENTRIES:
            first = next(iter(diff))
            name, value = ENTRIES[kind](first, diff.pop(first))
            diff[name] = value
        sent = update_to_dxo(Update({} if kind == "empty" else diff, 5, 1))
        if kind == "cases":
            sent.set_meta_prop(CASES, -3)
        if kind == "weights":
            sent.data_kind = DataKind.WEIGHTS
        return sent.to_shareable()

    return answer


@pytest.mark.parametrize(
    ("kind", "outcome", "said"),
    [
        ("empty", "refused", "MS-J001"),
        ("name", "refused", "MS-J002"),
        ("shape", "refused", "MS-J003"),
        ("numpy", "refused", "MS-J004"),
        ("double", "refused", "MS-J004"),
        ("meta", "refused", "no update"),
        ("nan", "refused", "MS-J005"),
        ("cases", "refused", "MS-J006"),
        ("weights", "refused", "MS-J001"),
        ("no dxo", "refused", "no update"),
        ("error", "failed", "its own log says why"),
        ("other bundle", "failed", "another bundle"),
        ("missing", "missing", "sent nothing"),
    ],
)
def test_a_bad_update_is_left_out_with_a_warning_that_names_the_site(server, small_recipe, kind, outcome, said):
    folder, told = server(how_of(rounds=1), {"a": site(0.1, 1), "b": site(0.3, 1), "bad": broken(kind)})
    assert moved(folder, small_recipe) == pytest.approx(0.2, abs=1e-6)
    row = read_rounds(folder)[0]
    assert row["sites"]["bad"]["outcome"] == outcome
    assert any("site bad" in line and said in line for line in told)


@pytest.mark.parametrize("error", [RuntimeError, NotImplementedError, OverflowError, MemoryError])
def test_what_goes_wrong_with_one_answer_stops_nobody_else(server, small_recipe, monkeypatch, error):
    def judge(self, dxo):
        if dxo.get_meta_prop(CASES) == 7:
            raise error
        return judge_soundly(self, dxo)

    judge_soundly = PlainSums.update_of
    monkeypatch.setattr(PlainSums, "update_of", judge)
    folder, told = server(how_of(rounds=1), {"a": site(0.1, 1), "b": site(0.3, 1), "bad": site(0.1, 7)})
    assert moved(folder, small_recipe) == pytest.approx(0.2, abs=1e-6)
    assert any("site bad is refused" in line and error.__name__ in line for line in told)


def test_a_state_that_would_not_be_finite_fails_the_round_and_the_last_good_one_stays(server):
    calls = []

    def once(task, dxo):
        calls.append(task)
        return site(0.1 if calls.count("train") == 1 else 1e22, 1)(task, dxo)

    how = how_of(server=ServerOptimiser("yogi", learning_rate=0.1))
    folder, told = server(how, {"a": site(0.1, 1), "b": once})
    assert "MS-J007" in told[-1]
    assert "site b" in told[-1]
    assert json.loads((folder / "failure.json").read_text("utf-8"))["code"] == "MS-J007"
    last = load_state(folder)
    assert last.rounds == 1
    assert all(bool(torch.isfinite(value).all()) for value in (*last.state.values(), *last.moments.values()))
    assert [set(row["sites"]) for row in read_rounds(folder)] == [{"a", "b"}] * 2
    assert (
        "MS-J016" in server(how_of(), {"a": site(0.1, 1), "b": once}, resume=True)[1][-1]
    )  # and only by its algorithm
    _, told = server(how, {"a": site(0.1, 1), "b": site(0.1, 1)}, resume=True)
    assert (told, load_state(folder).rounds) == ([], 2)


def test_below_the_quorum_it_fails_loudly_and_goes_on_from_the_last_good_round(server, small_recipe):
    calls = []

    def once(task, dxo):
        calls.append(task)
        return site(0.3, 1)(task, dxo) if calls.count("train") == 1 else broken("nan")(task, dxo)

    folder, told = server(how_of(), {"a": site(0.1, 1), "b": once})
    assert "MS-J018" in told[-1]
    assert "b refused" in told[-1]
    assert (folder / "failure.json").is_file()
    assert load_state(folder).rounds == 1
    assert moved(folder, small_recipe) == pytest.approx(0.2, abs=1e-6)
    seen = []
    _, told = server(how_of(), {"a": site(0.1, 1, seen=seen), "b": site(0.3, 1)}, resume=True)
    assert told == []
    assert [task for task, _ in seen] == ["train", "validate"]  # the second round and the end
    assert moved(folder, small_recipe) == pytest.approx(0.4, abs=1e-6)


def test_a_site_that_is_held_out_counts_for_nothing_but_its_scores(server, small_recipe):
    def held_out(task, dxo):
        return DXO(DataKind.METRICS, data={"val_mean_dice": 0.75, "name": "x"}).to_shareable()

    folder, told = server(how_of(), {"a": site(0.1, 1), "b": site(0.3, 1), "t": held_out})
    assert told == []
    assert moved(folder, small_recipe) == pytest.approx(0.4, abs=1e-6)
    assert read_rounds(folder)[0]["sites"]["t"]["metrics"] == {"val_mean_dice": 0.75}


def test_what_the_server_refuses_before_round_one(server):
    sites = {"a": site(0.1, 1), "b": site(0.3, 1)}
    assert "MS-J010" in server(how_of(), sites, bundle_hash="0" * 64)[1][-1]
    assert "MS-J015" in server(how_of(), sites, overrides={"network_def#_target_": "os.system"})[1][-1]
    assert "MS-J018" in server(how_of(), {})[1][-1]
    server(how_of(), sites)
    assert "MS-J017" in server(how_of(), sites)[1][-1]  # a training of this name is there
