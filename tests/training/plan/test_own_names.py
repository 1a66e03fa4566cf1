"""Names that label maps themselves give their values become the structures' names, and must not contradict each other."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.labels import LabelTable
from medseg.training.folds import find_folds
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
    assert own_names(one.names for one in facts) == {1: "kidney_left", 2: "kidney_right"}
    classes = classes_of({}, {1, 2}, root, own_names(one.names for one in facts))
    assert [row.name for row in classes.table] == ["kidney_left", "kidney_right"]
    assert "named by the label maps" in classes.choice.why
    assert mirroring_of(classes.table)[0] == "swap"
    assert mirroring_of(classes_of({}, {1, 2}, root).table)[0] == "plain"


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (
            {1: "liver", 2: "spleen"},
            {1: "spleen", 2: "liver"},
            ["liver is 2 here and 1 in a", "spleen is 1 here and 2 in a"],
        ),
        ({1: "liver"}, {2: "Liver"}, ["Liver is 2 here and 1 in a"]),
        ({1: "liver"}, {1: "tumour", 2: "liver"}, ["liver is 2 here and 1 in a"]),
        ({1: "tumour", 2: "liver"}, {1: "liver"}, ["liver is 1 here and 2 in a"]),
    ],
)
def test_a_structure_with_another_value_is_a_fault(named, first, second, told):
    named("a", 0, first)
    root = named("b", 1, second)
    _, _, problems = check_dataset(find_source(root))
    faults = [one for one in problems if not one.note]
    assert {(one.code, one.case, one.file) for one in faults} == {("MS-T155", "b", str(root / "labelsTr" / "b.nii.gz"))}
    assert sorted(one.what for one in faults) == sorted(told)


def test_the_file_unlike_most_others_is_blamed(named):
    for n, names in enumerate([{2: "liver"}, {1: "liver"}, {1: "liver"}, {1: "Liver"}]):
        root = named(f"c{n}", n, names)
    _, _, problems = check_dataset(find_source(root))
    assert [(one.case, one.what) for one in problems] == [("c0", "liver is 2 here and 1 in c1 and 2 more")]


def test_other_words_for_a_value_are_a_note_and_it_is_called_as_in_most_files(named):
    named("a", 0, {1: "hepar", 2: "spleen"})
    named("b", 1, {1: "liver", 2: "spleen"})
    root = named("c", 2, {1: "Liver", 2: "spleen"})
    facts, problems = checked(root)
    assert problems == [("MS-T155", "a", True)]
    assert own_names(one.names for one in facts) == {1: "liver", 2: "spleen"}


def test_numbered_names_are_none(named):
    named("a", 0, {1: "Segment_1", 2: "Segment_2"})
    root = named("b", 1, {1: "Segment_2", 2: "label 1"})
    facts, problems = checked(root)
    assert (problems, own_names(one.names for one in facts)) == ([], {})


def test_dataset_json_comes_first_and_numbers_of_objects_mean_nothing(named, maker):
    named("a", 0, {1: "liver", 2: "spleen"})
    root = named("b", 1, {1: "spleen", 2: "liver"})
    assert checked(root, names=False)[1] == []
    maker.say(channel_names={"0": "CT"}, labels={"background": 0, "x": 1, "y": 2})
    facts, problems = checked(root)
    assert problems == []
    assert len(find_folds(root, 2).folds) == 2
    said = find_source(root).said
    assert [row.name for row in classes_of(said, {1, 2}, root, own_names(one.names for one in facts)).table] == [
        "x",
        "y",
    ]
