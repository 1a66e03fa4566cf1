"""Names, nested regions and sides come from dataset.json."""

from __future__ import annotations

from pathlib import Path

import pytest

from medseg.errors import InputError
from medseg.training.plan.classes import classes_of, ignore_value, known_values, mirroring_of, painted_values

HERE = Path("data")
REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}


@pytest.mark.parametrize(
    "labels", [{"background": 0, "liver": 1, "tumour": 2}, {"0": "background", "1": "liver", "2": "tumour"}]
)
def test_nnunets_and_msds_names(labels):
    said = {"labels": labels}
    found = classes_of(said, {1}, HERE)
    assert [(row.value, row.name) for row in found.table] == [(1, "liver"), (2, "tumour")]
    assert found.outputs == 3
    assert found.regions == ()
    assert "in no label map: tumour" in found.choice.why
    assert known_values(said) == {1, 2}


def test_values_name_themselves_where_nothing_does():
    found = classes_of({}, {1, 4}, HERE)
    assert [row.name for row in found.table] == ["label 1", "label 4"]
    assert found.outputs == 3
    assert found.gaps
    assert found.inside == (1, 2)
    assert found.renumbering() == {4: 2}
    assert "inside the network they are 1 to 2" in found.choice.why


@pytest.mark.parametrize("labels", [{"a": 2, "b": 5, "ignore": 9}, {"2": "a", "5": "b", "9": "Ignore"}])
def test_an_ignore_label_is_a_value_beyond_the_classes(labels):
    found = classes_of({"labels": labels}, {2, 5}, HERE)
    assert [row.name for row in found.table] == ["a", "b"]
    assert (found.ignore, found.ignored, found.outputs) == (9, 3, 3)
    assert found.renumbering() == {2: 1, 5: 2, 9: 3}
    assert ignore_value({"labels": labels}) == 9
    assert known_values({"labels": labels}) == {2, 5}


def test_without_gaps_nothing_is_renumbered():
    found = classes_of({"labels": {"a": 1, "b": 2, "ignore": 3}}, {1, 2}, HERE)
    assert not found.gaps
    assert found.renumbering() == {}
    assert (found.ignore, found.ignored) == (3, 3)
    nested = classes_of({"labels": {**REGIONS, "ignore": 4}}, {1, 2, 3}, HERE)
    assert (nested.ignore, nested.outputs, nested.gaps) == (4, 3, False)


@pytest.mark.parametrize("order", [[1, 2, 3], None])
def test_nested_regions_are_painted_from_outside_in(order):
    found = classes_of({"labels": REGIONS, **({"regions_class_order": order} if order else {})}, {1, 2, 3}, HERE)
    assert found.regions == ((1, 2, 3), (2, 3), (3,))
    assert painted_values(found) == [1, 2, 3]
    assert found.outputs == 3
    assert known_values({"labels": REGIONS}) == {1, 2, 3}


def test_painting_the_regions_gives_the_label_map_back():
    import numpy as np
    import torch

    from medseg.transforms.regions import to_regions

    found = classes_of({"labels": REGIONS}, {1, 2, 3}, HERE)
    label = np.random.default_rng(0).integers(0, 4, (1, 6, 6, 6))
    channels = to_regions(torch.from_numpy(label), found.regions).numpy()
    painted = np.zeros(label.shape[1:], int)
    for channel, value in zip(channels, painted_values(found), strict=True):
        painted[channel > 0] = value
    assert (painted == label[0]).all()


def test_sides_are_found_in_names_and_trade():
    said = {"labels": {"kidney_left": 1, "kidney_right": 2, "liver": 3}}
    table = classes_of(said, {1, 2, 3}, HERE).table
    assert table.by_name["kidney_left"].mirror == "kidney_right"
    assert table.by_name["liver"].mirror is None
    assert mirroring_of(table)[0] == "swap"
    assert mirroring_of(table, pairs_swap=False)[0] == ""


@pytest.mark.parametrize(
    ("left", "right"), [("Left Lung", "Right Lung"), ("lung-L", "lung-R"), ("LH cortex", "RH cortex")]
)
def test_words_for_sides(left, right):
    table = classes_of({"labels": {left: 1, right: 2}}, {1, 2}, HERE).table
    assert table.by_name[left].mirror == right


def test_a_side_without_its_partner_forbids_mirroring():
    table = classes_of({"labels": {"left kidney": 1, "liver": 2}}, {1, 2}, HERE).table
    mode, choice = mirroring_of(table)
    assert mode == ""
    assert "left kidney" in choice.why


def test_names_that_only_contain_a_letter_have_no_side():
    table = classes_of({"labels": {"vertebra L1": 1, "cleft": 2, "bright": 3}}, {1, 2, 3}, HERE).table
    assert mirroring_of(table)[0] == "plain"


@pytest.mark.parametrize(
    ("said", "held", "what"),
    [
        ({"labels": {"a": 1, "b": 2, "ignore": 2}}, {1, 2}, "ignore label is 2, which is a structure"),
        ({"labels": {"a": 1, "ignore": 0}}, {1}, "ignore label is 0, which is background"),
        ({"labels": {"a": 1, "ignore": [2, 3]}}, {1}, "no single value"),
        ({}, set(), "no label map holds a structure"),
        ({}, {1, 300}, "up to 300"),
    ],
)
def test_labels_that_no_bundle_can_hold(said, held, what):
    with pytest.raises(InputError, match=f"MS-T150.*{what}"):
        classes_of(said, held, HERE)
