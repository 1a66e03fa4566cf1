"""Names of structures as people write them."""

from __future__ import annotations

import pytest

from medseg.federated.names import canonical, side_of, unnamed
from medseg.labels import Label


def row(name, value=1):
    return Label(value, name, (0, 0, 0))


@pytest.mark.parametrize("name", ["Left kidney", "kidney_left", "KIDNEY left", "kidney, lt", "left-kidney"])
def test_one_structure_in_many_spellings(name):
    assert canonical(row(name)) == canonical(row("left kidney"))
    assert side_of(name) == "left"


@pytest.mark.parametrize("name", ["right kidney", "kidney", "left kidneys", "left lung", "left kidney 2"])
def test_other_structures_stay_apart(name):
    assert canonical(row(name)) != canonical(row("left kidney"))


@pytest.mark.parametrize(("name", "side"), [("brightness", ""), ("cleft", ""), ("L1", ""), ("lh cortex", "left"), ("left of right", "")])  # fmt: skip
def test_sides_are_whole_words(name, side):
    assert side_of(name) == side


def test_what_is_only_a_value_is_known_by_it():
    assert unnamed("label 3")
    assert not unnamed("label 3 of liver")
    assert canonical(row("label 3", 3)) == canonical(row("structure 3", 3)) == "label 3"
