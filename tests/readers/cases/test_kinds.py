"""Of several label maps one kind for all images, by what the files are called."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.readers.cases.case import Case
from medseg.readers.cases.kinds import kind_of, of_one_kind, shared_kind


def case(name, *maps):
    files = tuple(Path(f"{one}.nii.gz") for one in maps)
    return Case(name, (Path(f"{name}.nii.gz"),), label=files[0] if len(files) == 1 else None, maps=files)


def taken(*cases):
    return [None if one.label is None else one.label.name.removesuffix(".nii.gz") for one in of_one_kind(cases)]


@pytest.mark.parametrize(
    ("image", "label", "kind"),
    [
        ("t2", "t2_seg-manual", ("seg", "manual")),
        ("a", "label_a", ("label",)),
        ("a", "a", ()),
        ("example_ct_sm", "example_seg_fast", ("seg", "fast")),
        ("FLAIR", "lesions", ("lesions",)),
        ("Scan_1", "scan_1_Mask", ("mask",)),
        ("a_0000", "a_seg", ("seg",)),
    ],
)
def test_a_kind_is_what_the_name_says_beside_the_images(image, label, kind):
    assert kind_of(Path(f"{label}.nii.gz"), case(image)) == kind


def test_the_kind_that_most_images_have_is_taken():
    t1, t2 = case("t1", "t1_seg-manual"), case("t2", "t2_seg-auto", "t2_seg-manual", "t2_seg-manual_levels")
    lesion = case("t2_lesion", "t2_lesion_cord_seg", "t2_lesion_lesion_seg")
    assert taken(t1, t2, lesion) == ["t1_seg-manual", "t2_seg-manual", None]


def test_the_longest_beginning_that_they_share_where_no_kind_stands_out():
    small = case("example_ct_sm", "example_seg", "example_seg_fast", "example_seg_fast_body_seg")
    assert taken(case("example_ct", "example_seg_fast_split"), small) == ["example_seg_fast_split", "example_seg_fast"]


@pytest.mark.parametrize(
    "held",
    [
        [("a", "a_seg", "a_seg_old"), ("b", "b_seg", "b_seg_old")],
        [("a", "a_liver_seg", "a_tumour_seg"), ("b", "b_liver_seg", "b_tumour_seg")],
        [("a", "a_seg_anna", "a_seg_bo"), ("b", "b_seg_anna", "b_seg_bo")],
        [("a", "a_gt", "a_mask"), ("b", "b_seg")],
        [("a", "a_gt", "a_mask")],
    ],
)
def test_two_kinds_as_common_as_each_other_are_not_guessed(held):
    cases = [case(*one) for one in held]
    assert shared_kind(cases) is None
    assert [one for one, made in zip(taken(*cases), cases, strict=True) if len(made.maps) > 1] == [None] * sum(
        len(made.maps) > 1 for made in cases
    )


def test_an_image_with_one_label_map_keeps_it_whatever_it_is_called():
    cases = [case("a", "a_seg", "a_gt"), case("b", "b_seg"), case("c", "c_annotation"), case("d")]
    assert taken(*cases) == ["a_seg", "b_seg", "c_annotation", None]


NAMES = st.lists(
    st.lists(st.sampled_from(["seg", "gt", "old", "liver"]), min_size=1, max_size=3).map("_".join),
    max_size=4,
    unique=True,
)


@given(st.lists(NAMES, min_size=1, max_size=6), st.randoms())
def test_what_is_taken_is_an_own_map_of_the_kind_and_knows_no_order(found, random):
    cases = [case(f"s{n}", *(f"s{n}_{one}" for one in names)) for n, names in enumerate(found)]
    kind = shared_kind(cases)
    made = {one.name: one.label for one in of_one_kind(cases)}
    for one in cases:
        if len(one.maps) > 1 and made[one.name] is not None:
            assert made[one.name] in one.maps
            assert kind is not None
            assert kind_of(made[one.name], one)[: len(kind)] == kind
    shuffled = list(cases)
    random.shuffle(shuffled)
    assert {one.name: one.label for one in of_one_kind(shuffled)} == made
