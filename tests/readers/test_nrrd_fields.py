"""The lines of an NRRD header, told apart."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import InputError
from medseg.readers.nrrd_fields import read_fields

PATH = Path("x.nrrd")
WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters="\x7f\x85\xa0"), max_size=12)
NAMES = st.from_regex(r"[a-z]{1,6}( [a-z]{1,6})?", fullmatch=True).filter(lambda s: s not in ("data file", "datafile"))


def parse(*lines: str, behind: bytes = b"", end: str = "\n"):
    stream = BytesIO("".join(line + end for line in ("NRRD0005", *lines)).encode() + behind)
    return *read_fields(stream, PATH), stream.read()


@given(st.dictionaries(NAMES, WORDS), st.dictionaries(NAMES, WORDS), st.sampled_from(["\n", "\r\n"]))
def test_what_was_written_is_read(fields, pairs, end):
    lines = [f"{k}: {v}" for k, v in fields.items()] + [f"{k}:={v}" for k, v in pairs.items()]
    known = {"lineskip": "line skip", "byteskip": "byte skip"}
    found = parse(*lines, "# a remark", "", behind=b"\0\1", end=end)
    assert found == ({known.get(k, k): v for k, v in fields.items()}, pairs, (), b"\0\1")


def test_names_are_one_whatever_their_letters_and_spaces():
    fields, pairs, files, _ = parse(
        "Space  Directions: (1,0,0)", "byteskip: -1", "Segment0_Name:=a: b := c", "datafile: x.raw"
    )
    assert fields == {"space directions": "(1,0,0)", "byte skip": "-1", "data file": "x.raw"}
    assert pairs == {"Segment0_Name": "a: b := c"}
    assert files == ("x.raw",)


def test_a_field_may_hold_the_sign_of_a_pair():
    assert parse("content: a := b", "")[:2] == ({"content": "a := b"}, {})


def test_a_list_of_files_ends_the_header():
    assert parse("type: short", "data file: LIST", "a.raw", " b c.raw", "", "d.raw")[2:] == (
        ("a.raw", "b c.raw", "d.raw"),
        b"",
    )


@pytest.mark.parametrize(
    ("lines", "code", "match"),
    [
        (["type short"], "MS-R101", "no field: 'type short'"),
        (["data file: x%03d.raw 1 4 1"], "MS-R105", "pattern"),
        (["a: " + "x" * (1 << 24)], "MS-R101", "does not end"),
        (["a: " + "x" * 1000] * 17000, "MS-R101", "does not end"),
    ],
)
def test_broken_lines(lines, code, match):
    with pytest.raises(InputError, match=match) as caught:
        parse(*lines)
    assert caught.value.code == code
    assert str(PATH) in str(caught.value)
