"""One site's side of a job, called as NVFLARE calls it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
import yaml
from nvflare.apis.dxo import DataKind, from_shareable
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.signal import Signal

from medseg.bundle.load import load_bundle
from medseg.bundle.weights import read_weights
from medseg.federated.algorithm import Algorithm
from medseg.federated.bundle_hash import bundle_hash
from medseg.federated.exchange import (
    ROUND,
    added,
    check_update,
    dxo_to_update,
    shapes_of,
    state_to_dxo,
    travelling,
    with_control,
    without_control,
)
from medseg.federated.executor import GLOBAL, OWN, SCORE, MedsegExecutor
from medseg.federated.initial import initial_state


@pytest.fixture(scope="module")
def data(cubes, tmp_path_factory):
    return cubes(tmp_path_factory.mktemp("data"), range(5))


@pytest.fixture
def site(small_recipe, data, tmp_path):
    """`site(algorithm, held_out=...)`: an executor and a function that gives it tasks."""

    def make(how, *, job=None, **said):
        local = tmp_path / "local"
        local.mkdir(exist_ok=True)
        content = {"data": str(data), "bundle": str(small_recipe), "work": str(tmp_path / "kept"), **said}
        (local / "medseg_site.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        args = {"bundle_hash": bundle_hash(small_recipe), **(job or {})}
        executor = MedsegExecutor(small_recipe.name, algorithm=how.to_json(), **args)
        context = FLContext()
        workspace = SimpleNamespace(get_root_dir=lambda: str(tmp_path), get_site_config_dir=lambda: str(local))
        context.set_prop(FLContextKey.WORKSPACE_OBJECT, workspace, private=True)

        def ask(task, state, number=0, signal=None, **meta):
            sent = state_to_dxo(state, **{ROUND: number}, **meta).to_shareable()
            return executor.execute(task, sent, context, signal or Signal())

        return ask

    return make


def how_of(**said):
    return Algorithm("test", **{"rounds": 2, "local_epochs": None, "local_steps": 2, **said})


def test_a_round_and_the_end(site, small_recipe, tmp_path):
    ask = site(how_of())
    state = travelling(initial_state(small_recipe).state)
    update = dxo_to_update(from_shareable(ask("train", state, **{SCORE: True})))
    check_update(update.diff, shapes_of(state))
    assert (update.cases, update.steps) == (4, 2)
    assert {"val_mean_dice", "loss", "seconds"} <= set(update.metrics)
    assert sum(float(value.abs().sum()) for value in update.diff.values()) > 0
    progress = json.loads((tmp_path / "kept" / "run" / "progress.json").read_text())
    assert (progress["step"], progress["of"]) == (2, 2)
    after = added(state, update.diff)
    again = dxo_to_update(from_shareable(ask("train", after, 1)))
    assert set(again.metrics) == {"loss", "seconds"}
    final = added(after, again.diff)
    scores = from_shareable(ask("validate", final, 2))
    assert scores.data_kind == DataKind.METRICS
    assert 0 <= scores.data["val_mean_dice"] <= 1
    for name in (GLOBAL, OWN):
        model = tmp_path / "kept" / "run" / name
        load_bundle(model)
        weights = read_weights(model / "models" / "model.safetensors")
        assert all(torch.allclose(weights[key].float(), value, atol=1e-3) for key, value in final.items())


def test_control_variates_travel_beside_the_weights(site, small_recipe):
    ask = site(how_of(control_variates=True))
    state = travelling(initial_state(small_recipe).state)
    control = {name: torch.zeros_like(value) for name, value in state.items()}
    sent = with_control(state, control)
    update = dxo_to_update(from_shareable(ask("train", sent)))
    check_update(update.diff, shapes_of(sent))
    _, changes = without_control(update.diff)
    assert sum(float(value.abs().sum()) for value in changes.values()) > 0


def test_personal_entries_do_not_leave_and_are_in_this_sites_model(site, small_recipe, tmp_path):
    how = how_of(rounds=1, personal=(r"\.bias$",))
    ask = site(how)
    state = travelling(initial_state(small_recipe).state, how.personal)
    update = dxo_to_update(from_shareable(ask("train", state)))
    assert update.diff.keys() == state.keys()
    assert not any(name.endswith(".bias") for name in update.diff)
    zero = {name: torch.zeros_like(value) for name, value in state.items()}
    assert ask("validate", zero, 1).get_return_code() == ReturnCode.OK
    own = read_weights(tmp_path / "kept" / "run" / OWN / "models" / "model.safetensors")
    assert all(not own[name].any() for name in zero)
    assert any(own[name].any() for name in own if name.endswith(".bias"))


def test_a_held_out_site_sends_scores_alone(site, small_recipe, tmp_path):
    ask = site(how_of(), held_out=True)
    state = travelling(initial_state(small_recipe).state)
    for task in ("train", "validate"):
        found = from_shareable(ask(task, state))
        assert found.data_kind == DataKind.METRICS
    assert not (tmp_path / "kept" / "run" / OWN).exists()


@pytest.mark.parametrize(
    ("job", "said", "code"),
    [
        ({"bundle_hash": "0" * 64}, {}, ReturnCode.MODEL_UNRECOGNIZED),
        ({"overrides": {"network_def#_target_": "os.system"}}, {}, ReturnCode.BAD_REQUEST_DATA),
        ({}, {"data": "nowhere"}, ReturnCode.EXECUTION_EXCEPTION),
    ],
)
def test_what_a_site_refuses_is_a_code_without_text(site, small_recipe, tmp_path, job, said, code):
    reply = site(how_of(), job=job, **said)("train", travelling(initial_state(small_recipe).state))
    assert reply.get_return_code() == code
    assert str(tmp_path) not in str(dict(reply))
    assert "nowhere" not in str(dict(reply))


def test_weights_of_another_network_and_unknown_tasks(site, small_recipe):
    ask = site(how_of())
    assert ask("train", {"other": torch.ones(2)}).get_return_code() == ReturnCode.EXECUTION_EXCEPTION
    assert ask("steal", {"other": torch.ones(2)}).get_return_code() == ReturnCode.TASK_UNSUPPORTED


def test_a_job_that_is_stopped_stops_the_site(site, small_recipe):
    ask, signal = site(how_of(local_steps=50)), Signal()
    signal.trigger("stop")
    reply = ask("train", travelling(initial_state(small_recipe).state), signal=signal)
    assert reply.get_return_code() == ReturnCode.TASK_ABORTED
