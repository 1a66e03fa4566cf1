"""A recipe as rounds need it: whose cases train, what is switched off, and that it is opened once."""

from __future__ import annotations

import pytest

from medseg.errors import InputError
from medseg.federated.algorithm import Algorithm
from medseg.federated.site_recipe import SiteRecipe


def names(cases) -> list[str]:
    return sorted(str(one["label"]).rsplit("/", 1)[1].removesuffix(".nii.gz") for one in cases)


@pytest.fixture(scope="module")
def data(cubes, tmp_path_factory):
    return cubes(tmp_path_factory.mktemp("data"), range(5))


def test_rounds_say_how_long_it_is_and_what_the_recipe_keeps_is_off(small_recipe, data, tmp_path):
    recipe = SiteRecipe(small_recipe, data, tmp_path, Algorithm("test", rounds=3, local_epochs=2))
    trainer = recipe.build("train#trainer")
    assert recipe.build("train#trainer") is trainer
    assert recipe.epochs == 2
    assert trainer.state.max_epochs == 6
    kinds = {type(one).__name__ for one in recipe.build("train#handlers")}
    assert not kinds & {"ValidationHandler", "Checkpoints", "FinalWeights", "BestWeights"}
    assert recipe.structures == ["Anterior hippocampus", "Posterior hippocampus"]
    assert recipe.build("no such part") is None
    recipe.close()


def test_steps_of_a_round_are_an_epoch_of_the_trainer(small_recipe, data, tmp_path):
    how = Algorithm("test", rounds=4, local_epochs=None, local_steps=7)
    trainer = SiteRecipe(small_recipe, data, tmp_path, how).build("train#trainer")
    assert (trainer.state.max_epochs, trainer.state.epoch_length) == (4, 7)


def test_whose_cases_validate(small_recipe, data, tmp_path):
    how = Algorithm("test")
    named = SiteRecipe(small_recipe, data, tmp_path, how, validation=("cube_03",))
    assert names(named.build("validate#dataset#data")) == ["cube_03"]
    assert len(named.build("train#dataset#data")) == 4
    held = SiteRecipe(small_recipe, data, tmp_path, how, held_out=True)
    assert names(held.build("validate#dataset#data")) == [f"cube_0{n}" for n in range(5)]
    changed = SiteRecipe(small_recipe, data, tmp_path, how, overrides={"learning_rate": 0.125})
    assert changed.build("optimizer").param_groups[0]["lr"] == 0.125


def test_data_that_are_not_there(small_recipe, tmp_path):
    with pytest.raises(InputError, match="MS-T103"):
        SiteRecipe(small_recipe, tmp_path / "nowhere", tmp_path, Algorithm("test")).build("network")
