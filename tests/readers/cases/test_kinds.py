"""Of several label maps one kind for all images, by what the files are called."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.readers.cases.case import Case
from medseg.readers.cases.kinds import Kind, of_one_kind, shared_kind, words_beside


def case(name, *maps):
    files = tuple(Path(one if "." in one else f"{one}.nii.gz") for one in maps)
    return Case(name, (Path(f"{name}.nii.gz"),), label=files[0] if len(files) == 1 else None, maps=files)


def taken(*cases):
    found = of_one_kind(cases, shared_kind(cases))
    return [None if one.label is None else one.label.name.removesuffix(".nii.gz") for one in found]


@pytest.mark.parametrize(
    ("image", "label", "words"),
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
def test_a_kind_is_what_the_name_says_beside_the_images(image, label, words):
    assert words_beside(Path(f"{label}.nii.gz"), case(image)) == words


def test_the_kind_that_most_images_have_is_taken():
    t1, t2 = case("t1", "t1_seg-manual"), case("t2", "t2_seg-auto", "t2_seg-manual", "t2_seg-manual_levels")
    lesion = case("t2_lesion", "t2_lesion_cord_seg", "t2_lesion_lesion_seg")
    assert shared_kind([t1, t2, lesion]) == Kind(("seg", "manual"), exact=True)
    assert taken(t1, t2, lesion) == ["t1_seg-manual", "t2_seg-manual", None]


def test_a_beginning_that_they_share_where_no_kind_stands_out_and_it_tells_one_of_each():
    small = case("example_ct_sm", "example_seg", "example_seg_fast", "example_seg_fast_body_seg")
    whole = case("example_ct", "example_seg_fast_split")
    assert shared_kind([whole, small]) == Kind(("seg", "fast"), exact=False)
    assert taken(whole, small) == ["example_seg_fast_split", "example_seg_fast"]


@pytest.mark.parametrize(
    "held",
    [
        [("a", "a_seg", "a_seg_old"), ("b", "b_seg", "b_seg_old")],
        [("a", "a_liver_seg", "a_tumour_seg"), ("b", "b_liver_seg", "b_tumour_seg")],
        [("a", "a_seg_anna", "a_seg_bo"), ("b", "b_seg_anna", "b_seg_bo")],
        [
            ("a", "a_seg_1", "a_seg_2"),
            ("b", "b_seg_1", "b_seg_2"),
            ("c", "c_seg_1", "c_seg_2"),
            ("x", "x_seg"),
            ("y", "y_seg"),
        ],
        [("a", "a_gt", "a_mask"), ("b", "b_seg")],
        [("a", "a_gt", "a_mask")],
        [("a", "a_seg"), ("b", "b_seg")],
    ],
)
def test_two_kinds_as_common_as_each_other_are_not_guessed(held):
    cases = [case(*one) for one in held]
    assert shared_kind(cases) is None
    assert of_one_kind(cases, None) == cases


def test_an_exact_kind_is_taken_by_its_very_words():
    cases = [case("a", "a_seg"), case("b", "b_seg"), case("c", "c_seg_lesion", "c_gt")]
    assert taken(*cases) == ["a_seg", "b_seg", None]


def test_two_files_of_the_kind_are_none():
    cases = [case("a", "a_seg.nii.gz", "a_seg.mha"), case("b", "b_seg"), case("c", "c_seg")]
    assert taken(*cases) == [None, "b_seg", "c_seg"]


def test_an_only_label_map_stays_unless_its_kind_was_passed_over_elsewhere():
    cases = [
        case("a", "a_cord_seg", "a_lesion_seg"),
        case("b", "b_cord_seg"),
        case("c", "c_lesion_seg"),
        case("d", "d_gt"),
        case("e"),
        case("f", "f_cord_seg"),
    ]
    assert taken(*cases) == ["a_cord_seg", "b_cord_seg", None, "d_gt", None, "f_cord_seg"]


NAMES = st.lists(
    st.lists(st.sampled_from(["seg", "gt", "old", "liver"]), min_size=1, max_size=3).map("_".join),
    max_size=4,
    unique=True,
)


@given(st.lists(NAMES, min_size=1, max_size=6), st.randoms())
def test_a_case_gets_its_only_map_of_the_kind_and_order_does_not_matter(found, random):
    cases = [case(f"s{n}", *(f"s{n}_{one}" for one in names)) for n, names in enumerate(found)]
    kind = shared_kind(cases)
    made = {one.name: one.label for one in of_one_kind(cases, kind)}
    for one in cases:
        own = [] if kind is None else [file for file in one.maps if words_beside(file, one) == kind.words]
        if own:
            assert made[one.name] == own[0]
        elif len(one.maps) > 1 and (kind is None or kind.exact):
            assert made[one.name] is None
    counts = Counter(tuple(name.split("_")) for names in found for name in names)
    first = counts.most_common(2)
    stands_out = len(first) == 1 or (len(first) == 2 and first[0][1] > first[1][1])
    if stands_out and first[0][1] > 1 and any(len(names) > 1 for names in found):
        assert kind == Kind(first[0][0], exact=True)
    shuffled = list(cases)
    random.shuffle(shuffled)
    assert {one.name: one.label for one in of_one_kind(shuffled, shared_kind(shuffled))} == made
