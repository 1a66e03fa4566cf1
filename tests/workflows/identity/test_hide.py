"""Words without names: what must go, and what must stay so that a message can be understood."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.workflows.identity.hide import hide, parts_of, spellings, telling

SHOWN = {"Anna": "case-1", "Anna_Mueller": "case-1", "IM0007": "file-7", "4711": "file-4711"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Anna_Mueller is missing", "case-1 is missing"),
        ("between IM0007 and IM0009", "between file-7 and IM0009"),
        ("Annabel stays, Anna goes", "Annabel stays, case-1 goes"),
        ("Anna_3 (IM0007.dcm)", "case-1_3 (file-7.dcm)"),
        ("14711 and 4711,", "14711 and file-4711,"),
        ("", ""),
    ],
)
def test_whole_words_go(text, wanted):
    assert hide(text, SHOWN) == wanted


@pytest.mark.parametrize("uid", ["1.2.276.0.7230010.3.1.4", "2.25.1.2.3.4.5", "1.3.6.1.4.1.14519.5"])
def test_uids_go_and_numbers_stay(uid):
    said = hide(f"series {uid} of {uid}. 1.2.3 and 0.5 mm, 10.0.0.1, 1.2.840.10008.5.1.4.1.1.2", {}, lambda _: "uid-1")
    assert said == "series uid-1 of uid-1. 1.2.3 and 0.5 mm, 10.0.0.1, 1.2.840.10008.5.1.4.1.1.2"


@pytest.mark.parametrize("name", ["scan", "CT", "images", "1", "0042", "x", "T1w", "medseg", ""])
def test_words_that_folders_are_called_by_everywhere_tell_of_nobody(name):
    assert not telling(name)


@pytest.mark.parametrize("name", ["Li", "Anna", "anna", "00042", "P17", "\u674e\u96f7"])
def test_names_tell(name):
    assert telling(name)


@given(st.text(alphabet=st.characters(categories=["L", "Nd"]), min_size=3, max_size=20).filter(telling))
def test_no_spelling_of_a_name_is_left(name):
    names = dict.fromkeys(spellings(f"{name}.nii.gz") | spellings(name), "case-1")
    for form in ("NFC", "NFD"):
        text = unicodedata.normalize(form, name)
        for said in (f"a {text}.nii.gz b", f"({text})", f"{text!r}", f"x/{text}/y"):
            left = hide(said, names)
            assert unicodedata.normalize("NFC", name) not in unicodedata.normalize("NFC", left)


def test_the_way_from_the_input_is_known_by_all_its_parts():
    base = Path("/data/study")
    found = parts_of([base / "Mueller" / "CT" / "IM1", Path("/mnt/Elsewhere/IM2")], base)
    assert {"Mueller", "CT", "IM1", "Mueller/CT/IM1", "Mueller_CT_IM1", "Elsewhere", "IM2"} <= found
    assert "data" not in found
