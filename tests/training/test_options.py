"""Options of `medseg train` as overrides of train.json."""

from __future__ import annotations

from pathlib import Path

import pytest

from medseg.errors import UsageError
from medseg.training.options import ENDLESS, Asked, overrides_of

CONFIG = {"losses": {"dice_ce": {}, "tversky": {}}, "epochs": 7}


def asked(**options) -> Asked:
    return Asked(Path("data"), Path("run"), **options)


def test_places_are_always_given_and_nothing_else_without_options():
    found = overrides_of(CONFIG, asked())
    assert found == {"dataset_dir": "data", "output_dir": str(Path("run", "models"))}


def test_minutes_leave_the_end_to_the_schedule():
    found = overrides_of(CONFIG, asked(minutes=3.5))
    assert (found["minutes"], found["epochs"]) == (3.5, ENDLESS)
    assert overrides_of(CONFIG, asked(epochs=4))["epochs"] == 4


def test_a_loss_is_taken_by_its_name_or_refused_with_the_names_there_are():
    assert overrides_of(CONFIG, asked(loss="tversky"))["base_loss"] == "@losses#tversky"
    with pytest.raises(UsageError, match=r"MS-T106[\s\S]*dice_ce, tversky"):
        overrides_of(CONFIG, asked(loss="focal"))
    with pytest.raises(UsageError, match=r"MS-T106[\s\S]*none"):
        overrides_of({}, asked(loss="focal"))
