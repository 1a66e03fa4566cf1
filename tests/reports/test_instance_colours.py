from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from medseg.labels import PALETTE, Code, LabelTable
from medseg.reports.instance_colours import ROUNDS, instance_colour, instance_table


def test_the_first_ones_are_the_palette_and_none_comes_back_soon():
    several = [instance_colour(n) for n in range(len(PALETTE) * len(ROUNDS))]
    assert several[: len(PALETTE)] == list(PALETTE)
    assert len(set(several)) == len(several) == 35
    assert instance_colour(35) == instance_colour(0)
    apart = [
        sum((a - b) ** 2 for a, b in zip(one, two, strict=True)) ** 0.5 for one, two in itertools.pairwise(several)
    ]
    assert min(apart) > 40, "neighbours in the list are told apart"


@given(st.integers(0, 10**6))
def test_every_colour_is_one(number):
    assert all(isinstance(c, int) and 0 <= c <= 255 for c in instance_colour(number))


CLASSES = LabelTable.from_json(
    [
        {"value": 1, "name": "Left kidney", "type": ["SCT", "64033007", "Kidney"], "mirror": "Right kidney",
         "modifier": ["SCT", "7771000", "Left"], "category": ["SCT", "123037004", "Anatomical Structure"]},
        {"value": 2, "name": "Right kidney", "mirror": "Left kidney"},
    ]
)  # fmt: skip


def test_each_instance_has_the_name_and_codes_of_its_class():
    table = instance_table([(1, 2), (2, 1), (40, 1), (41, 9)], CLASSES)
    assert [label.name for label in table] == ["Right kidney 1", "Left kidney 2", "Left kidney 40", "label 9 41"]
    assert table.by_value[40].type == Code("SCT", "64033007", "Kidney")
    assert table.by_value[40].modifier.meaning == "Left"
    assert table.by_value[2].category.value == "123037004"
    assert table.by_value[41].type is None
    assert all(label.mirror is None and not label.region for label in table)
    assert table.by_value[40].colour == instance_colour(39)


def test_names_that_end_in_numbers_stay_apart():
    classes = LabelTable.from_names(["L", "L 1"])
    table = instance_table([(n, 1 + n % 2) for n in range(1, 130)], classes)
    assert len(table.by_name) == 129
