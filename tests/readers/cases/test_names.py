from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.readers.cases.names import (
    EXTENSIONS,
    belongs_to,
    case_stem,
    channel_key,
    collision_key,
    is_label_name,
    safe_name,
    split_by_channel_name,
    split_channel,
    stem,
)

WORDS = st.text(st.characters(whitelist_categories=("Lu", "Ll", "Nd"), max_codepoint=0x24F), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a.nii.gz", "a"),
        ("a.NII.GZ", "a"),
        ("liver_07_0000.nii.gz", "liver_07"),
        ("liver_07_0001.nii.gz", "liver_07_0001"),
        ("b.v2.nrrd", "b.v2"),
        ("b.seg.nrrd", "b"),
        ("c.mha", "c"),
        ("d.img", "d"),
        ("noextension", "noextension"),
        ("_0000.nii", "_0000"),
        (".nii.gz", ".nii.gz"),
    ],
)
def test_case_names(file, name):
    assert case_stem(Path("x") / file) == name


@given(WORDS, st.sampled_from(EXTENSIONS), st.integers(0, 9999))
def test_stripping_undoes_adding(word, extension, number):
    assert stem(Path(word + extension)) == word
    assert stem(Path(word + extension.upper())) == word
    assert split_channel(f"{word}_{number:04d}") == (word, number)
    assert case_stem(Path(f"{word}_0000{extension}")) == word


@given(st.text(max_size=300))
def test_safe_names_are_safe_everywhere_and_stay_so(text):
    name = safe_name(text)
    assert name
    assert not re.search(r'[<>:"/\\|?*]', name)
    assert name.isprintable()
    assert name[-1] not in ". "
    assert name[0] not in ". "
    assert len(name) <= 121
    assert name.split(".")[0].strip().upper() not in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT9", "CONIN$"}
    assert safe_name(name) == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("con", "_con"),
        ("CON.x", "_CON.x"),
        ("Lpt1 .a", "_Lpt1 .a"),
        ("console", "console"),
        ("../../etc/passwd", "__.._etc_passwd"),
        ("..", "_"),
        ("", "_"),
        ("a\nb", "a_b"),
        ("trailing. .", "trailing"),
        (".hidden", "_hidden"),
        ("record.json", "_record.json"),
        ("Müller 3", "Müller 3"),
    ],
)
def test_safe_names(text, name):
    assert safe_name(text) == name


def test_collision_keys_fold_case_and_composition():
    assert collision_key("Étude") == collision_key("e\u0301tude")
    assert collision_key("STRASSE") == collision_key("straße")
    assert collision_key("a_1") != collision_key("a1")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a_seg.nii.gz", True),
        ("a.seg.nrrd", True),
        ("label_003.nii.gz", True),
        ("t2_seg-manual.nii.gz", True),
        ("Mask.mha", True),
        ("patient02_consensus_gt.nii.gz", True),
        ("segovia_1.nii.gz", False),
        ("masked_T1.nii.gz", False),
        ("t2_fake_lesion.nii.gz", False),
        ("labelled.nii", True),
    ],
)
def test_label_names(name, expected):
    assert is_label_name(Path(name)) is expected


@pytest.mark.parametrize(
    ("label", "image", "expected"),
    [
        ("a", "a", True),
        ("a_seg", "a", True),
        ("ab_seg", "a", False),
        ("label_a", "a", True),
        ("xlabel_a", "a", False),
        ("seg-a_1", "a_1", True),
        ("seg", "", False),
    ],
)
def test_belonging(label, image, expected):
    assert belongs_to(label, image) is expected


def test_channel_names():
    assert channel_key("T1w") == channel_key("t1") == "t1"
    assert channel_key("FLAIR") == channel_key("flair ")
    assert split_by_channel_name("brats_7_flair", ("FLAIR", "T1")) == ("brats_7", 0)
    assert split_by_channel_name("brats_7_t1ce", ("FLAIR", "T1")) is None
    assert split_by_channel_name("T1", ("FLAIR", "T1w")) == ("", 1)
    assert split_by_channel_name("brats_t1", ("FLAIR", "T1w", "T1ce")) == ("brats", 1)
