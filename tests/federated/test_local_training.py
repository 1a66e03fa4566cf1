"""One site's rounds: alone they are `medseg train`; stopped and gone on with they are the same; a pull keeps them near."""

from __future__ import annotations

import pytest
import torch

from medseg.errors import InputError
from medseg.federated.aggregation import mean_change, server_step
from medseg.federated.algorithm import Algorithm
from medseg.federated.exchange import completed, difference, travelling
from medseg.federated.initial import initial_state
from medseg.federated.local_training import LocalTraining
from medseg.federated.site_recipe import SiteRecipe
from medseg.training.checkpoint_file import latest_sound
from medseg.training.train import train_bundle


def algorithm(**said):
    return Algorithm("test", **{"rounds": 3, "local_epochs": 1, **said})


def training(recipe, data, out, how, *, resume=False, **options):
    return LocalTraining(SiteRecipe(recipe, data, out, how, **options), resume=resume)


def trained(recipe, data, out, how, rounds=None, *, start=0, state=None, **options):
    """Rounds of one site alone: what it sends goes through the server's arithmetic and back."""
    local = training(recipe, data, out, how, **options)
    state = initial_state(recipe).state if state is None else state
    for number in range(start, how.rounds if rounds is None else rounds):
        sent = travelling(state, how.personal)
        state = local.round(sent, number).state
        change = mean_change([difference(travelling(state, how.personal), sent)], [1.0])
        state = completed(state, server_step(sent, change, how.server, {})[0])
    local.close()
    return state, local


@pytest.fixture(scope="module")
def data(cubes, tmp_path_factory):
    return cubes(tmp_path_factory.mktemp("site"), range(7))


def furthest(first, second):
    return max(float((first[name].double() - second[name].double()).abs().max()) for name in first)


def test_one_site_alone_is_medseg_train(small_recipe, data, tmp_path):
    run = train_bundle(small_recipe, data, tmp_path / "run", epochs=3)
    wanted = latest_sound(run / "models")[1]["parts"]["model"]
    before = initial_state(small_recipe).state
    found, local = trained(small_recipe, data, tmp_path / "site", algorithm())
    assert furthest(found, wanted) <= 1e-6
    assert furthest(found, before) > 1e-3  # and it has learnt
    assert local.recipe.cases == 6  # a fifth of seven validates
    steps, _ = trained(small_recipe, data, tmp_path / "steps", algorithm(local_epochs=None, local_steps=3, rounds=3))
    assert furthest(steps, wanted) <= 1e-6  # the same nine steps


def test_a_stopped_site_goes_on_as_if_it_had_not_been_stopped(small_recipe, data, tmp_path):
    how = algorithm(local_epochs=None, local_steps=4)  # rounds end in the middle of an epoch of three batches
    whole, _ = trained(small_recipe, data, tmp_path / "whole", how)
    half, _ = trained(small_recipe, data, tmp_path / "half", how, 2)
    lost, _ = trained(small_recipe, data, tmp_path / "half", how, 3, start=2, state=half, resume=True)
    assert furthest(lost, whole) == 0
    again, _ = trained(small_recipe, data, tmp_path / "half", how, 3, start=2, state=half, resume=True)
    assert furthest(again, whole) == 0  # the server lost the last round, and the checkpoint of it is not used


def test_a_pull_keeps_the_weights_near_the_global_ones(small_recipe, data, tmp_path):
    start = initial_state(small_recipe).state
    drift = {}
    for mu in (0.0, 5.0):
        how = algorithm(rounds=1, local_epochs=None, local_steps=16, mu=mu)
        state, _ = trained(small_recipe, data, tmp_path / str(mu), how)
        moved = [(state[name] - start[name]).double().square().sum() for name in start]
        drift[mu] = float(torch.stack(moved).sum().sqrt())
    assert 0 < drift[5.0] < 0.5 * drift[0.0]


def test_validation_scores_the_global_weights_and_changes_nothing(small_recipe, data, tmp_path):
    how = algorithm(rounds=2)
    plain, _ = trained(small_recipe, data, tmp_path / "plain", how)
    local = training(small_recipe, data, tmp_path / "validated", how)
    state = initial_state(small_recipe).state
    for number in range(2):
        scores = local.validate(travelling(state), number)
        state = local.round(travelling(state), number).state
    assert furthest(plain, state) <= 1e-9  # the server's arithmetic, of which there is none in the loop above
    assert list(scores) == [
        "val_mean_dice",
        "val_mean_dice/Anterior hippocampus",
        "val_mean_dice/Posterior hippocampus",
    ]
    other = local.validate({name: torch.zeros_like(value) for name, value in travelling(state).items()})
    assert other != local.validate(travelling(state))


def test_a_held_out_site_validates_every_case(small_recipe, data, tmp_path):
    local = training(small_recipe, data, tmp_path / "out", algorithm(), held_out=True)
    assert local.validate(travelling(initial_state(small_recipe).state))
    assert local.recipe.cases == 0
    assert len(local.recipe.validation_cases()) == 7


def test_personal_entries_are_not_overwritten(small_recipe, data, tmp_path):
    how = algorithm(rounds=2, local_epochs=1, personal=(r"\.bias$",))
    local = training(small_recipe, data, tmp_path / "out", how)
    state = initial_state(small_recipe).state
    first = local.round(travelling(state, how.personal), 0).state
    zeros = {name: torch.zeros_like(value) for name, value in travelling(state, how.personal).items()}
    local.round(zeros, 1, abort=lambda: True)  # one step
    now = local.state()
    biases = [name for name in now if name.endswith(".bias")]
    assert max(float((now[name] - first[name]).abs().max()) for name in biases) < 0.05
    assert max(float(now[name].abs().max()) for name in zeros) < 0.05


def test_an_aborted_round_gives_nothing_and_the_next_one_is_whole(small_recipe, data, tmp_path):
    local = training(small_recipe, data, tmp_path / "out", algorithm(local_epochs=2))
    sent = travelling(initial_state(small_recipe).state)
    seen = []
    assert local.round(sent, 0, abort=lambda: len(seen) == 2, watch=lambda *told: seen.append(told)) is None
    assert [told[:2] for told in seen] == [(1, 6), (2, 6)]
    assert local.round(sent, 1).steps == local.steps == 6
    assert len(list((tmp_path / "out" / "models").glob("resume_*.pt"))) == 1


def test_what_cannot_train_is_refused_by_name(small_recipe, cubes, tmp_path):
    sent = travelling(initial_state(small_recipe).state)
    with pytest.raises(InputError, match="MS-T103"):
        training(small_recipe, tmp_path / "none", tmp_path / "out", algorithm()).round(sent, 0)
    few = cubes(tmp_path / "few", range(2))
    with pytest.raises(InputError, match=r"MS-J013 [\s\S]*1 training cases"):
        training(small_recipe, few, tmp_path / "out", algorithm()).round(sent, 0)
