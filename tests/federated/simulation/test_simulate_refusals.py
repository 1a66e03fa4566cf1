"""What a simulation refuses before anything starts."""

from __future__ import annotations

import json
import shutil

import pytest

from medseg.errors import OutputError, UsageError
from medseg.federated.algorithm import load_algorithm
from medseg.federated.simulation.simulate import simulate


@pytest.fixture
def sites(tmp_path):
    path = tmp_path / "sites.yaml"
    path.write_text("sites: [{name: a, data: a}, {name: b, data: b, cases: [x]}]", encoding="utf-8")
    return path


def test_partial_labels_with_what_loses_them(small_recipe, sites, tmp_path):
    recipe = tmp_path / "partial"
    shutil.copytree(small_recipe, recipe)
    path = recipe / "configs" / "train.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "labels_present": [1]}), encoding="utf-8")
    with pytest.raises(UsageError, match="MS-J024"):
        simulate(recipe, sites, load_algorithm("fedavg"), tmp_path / "out")
    sites.write_text("sites: [{name: a, data: a}]", encoding="utf-8")
    with pytest.raises(UsageError, match="MS-J024"):
        simulate(recipe, sites, load_algorithm("fedavg"), tmp_path / "out", compare=True)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_else(small_recipe, sites, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.docx").touch()
    with pytest.raises(OutputError, match="MS-J017"):
        simulate(small_recipe, sites, load_algorithm("fedavg"), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.docx"]
