"""Names that label maps themselves give their values become the structures' names, and must not contradict each other."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.labels import LabelTable
from medseg.training.plan.check import check_dataset
from medseg.training.plan.classes import classes_of, known_values, mirroring_of
from medseg.training.plan.own_names import own_names
from medseg.training.plan.sources import find_source
from medseg.writers.nifti import write_nifti


@pytest.fixture
def named(maker):
    """`named(case, {value: name})`: a case whose label map says what its values 1 and 2 mean."""

    def make(name, n, names):
        path = maker.case(name, n)
        labels = np.zeros((24, 24, 24), np.uint8)
        labels[4:14, 6:16, 8:18] = 1
        labels[15:20, 6:16, 8:18] = 2
        write_nifti(
            path, labels, np.eye(4), labels=LabelTable.from_json([{"value": v, "name": t} for v, t in names.items()])
        )
        return maker.root

    return make


def checked(root, **options):
    source = find_source(root)
    facts, _, problems = check_dataset(source, known_values(source.said), **options)
    return facts, [(one.code, one.case, one.note) for one in problems]


def test_they_name_the_structures_and_forbid_a_mirror_that_swaps_sides(named):
    named("a", 0, {1: "kidney_left", 2: "kidney_right", 3: "absent"})
    root = named("b", 1, {1: "Kidney left", 2: "kidney_right"})
    facts, problems = checked(root)
    assert problems == []
    assert own_names(facts) == {1: "kidney_left", 2: "kidney_right"}
    classes = classes_of({}, {1, 2}, root, own_names(facts))
    assert [row.name for row in classes.table] == ["kidney_left", "kidney_right"]
    assert "named by the label maps" in classes.choice.why
    assert mirroring_of(classes.table)[0] == "swap"
    assert mirroring_of(classes_of({}, {1, 2}, root).table)[0] == "plain"


def test_values_that_trade_their_names_are_a_fault(named):
    named("a", 0, {1: "liver", 2: "spleen"})
    root = named("b", 1, {1: "spleen", 2: "liver"})
    facts, problems = checked(root)
    assert problems == [("MS-T155", "b", False)] * 2
    assert own_names(facts) == {}


def test_other_words_for_a_value_are_a_note_and_it_goes_by_its_value(named):
    named("a", 0, {1: "liver", 2: "spleen"})
    root = named("b", 1, {1: "hepar", 2: "spleen"})
    facts, problems = checked(root)
    assert problems == [("MS-T155", "b", True)]
    assert [row.name for row in classes_of({}, {1, 2}, root, own_names(facts)).table] == ["label 1", "spleen"]


def test_dataset_json_comes_first_and_numbers_of_objects_mean_nothing(named, maker):
    named("a", 0, {1: "liver", 2: "spleen"})
    root = named("b", 1, {1: "spleen", 2: "liver"})
    assert checked(root, instances=True)[1] == []
    maker.say(channel_names={"0": "CT"}, labels={"background": 0, "x": 1, "y": 2})
    facts, problems = checked(root)
    assert problems == []
    said = find_source(root).said
    assert [row.name for row in classes_of(said, {1, 2}, root, own_names(facts)).table] == ["x", "y"]
