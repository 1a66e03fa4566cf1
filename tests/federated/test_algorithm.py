"""Algorithms are files that can be read, and every entry of them is checked."""

from __future__ import annotations

import json

import pytest
import yaml

from medseg.errors import UsageError
from medseg.federated.algorithm import NAMES, Algorithm, algorithms, load_algorithm


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_files_say_every_entry(name):
    found = load_algorithm(name)
    said = yaml.safe_load(algorithms()[name].read_text(encoding="utf-8"))
    assert set(said) | {"name"} == set(found.to_json())
    assert (found.mu > 0) == (name == "fedprox")
    assert (found.server.kind != "average") == (name == "fedopt")
    assert found.control_variates == (name == "scaffold")


def test_a_job_can_carry_it():
    found = load_algorithm("fedopt", personal=("norm",))
    assert Algorithm.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_changes_replace_entries():
    found = load_algorithm("fedavg", rounds=3, local_steps=7, mu=None)
    assert (found.rounds, found.local_steps, found.local_epochs, found.mu) == (3, 7, None, 0.0)
    assert load_algorithm("fedavg", local_epochs=2).local_epochs == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rounds: 0", "rounds is a whole number"),
        ("rounds: true", "rounds is a whole number"),
        ("epochs: 3", "'epochs' is none of"),
        ("local_steps: 5", "the other null"),
        ("local_epochs: null", "the other null"),
        ("mu: -1", "mu is a number from 0"),
        ("mu: .nan", "mu is a number from 0"),
        ("share_cap: 0", "share_cap"),
        ("deadline_s: 0", "seconds"),
        ("control_variates: 1", "true or false"),
        ("server: adam", "server is a table"),
        ("server: {kind: sgd}", "kind is average"),
        ("server: {kind: adam, learning_rate: 0}", "learning_rate is a number above 0"),
        ("server: {kind: adam, beta2: 1.0}", "beta2 is at least 0"),
        ("personal: norm", "personal is a list"),
        ("personal: ['[']", "no regular expression"),
        ("- rounds", "holds a list"),
        ("rounds: [", "not understood"),
    ],
)
def test_what_cannot_be_is_refused_with_the_file(tmp_path, text, said):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=f"MS-J012 .*mine.yaml[\\s\\S]*{said}"):
        load_algorithm(path)


def test_an_unknown_name_lists_the_known():
    with pytest.raises(UsageError, match=r"MS-J011[\s\S]*fedavg, fedprox, fedopt, scaffold"):
        load_algorithm("fedsgd")
