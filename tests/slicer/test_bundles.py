from __future__ import annotations

import json

import pytest
from MedSegLib.bundles import parse_bundles
from MedSegLib.errors import MedSegError


def test_what_medseg_prints(capsys):
    from medseg.cli.app import run

    assert run(["bundles", "--json"]) == 0
    text = capsys.readouterr().out
    found = parse_bundles(text)
    assert {b.name for b in found} == {row["name"] for row in json.loads(text)}
    hippocampus = next(b for b in found if b.name == "hippocampus_mri_segmentation")
    assert hippocampus.weights
    assert "hippocampus" in hippocampus.finds
    assert "Not a medical device" in hippocampus.tip


def test_those_that_can_predict_stand_first():
    rows = [{"name": "a", "weights": False}, {"name": "c", "version": "1", "weights": True}, {"name": "b"}]
    assert [b.title for b in parse_bundles(json.dumps(rows))] == ["b", "c 1", "a (no weights: a recipe)"]


@pytest.mark.parametrize("text", ["", "no bundles", "{}x", '[{"version": "1"}]', "[1]", "3"])
def test_other_output(text):
    with pytest.raises(MedSegError, match="no list of bundles"):
        parse_bundles(text)
