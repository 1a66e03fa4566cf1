from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import RecordError
from medseg.workflows.seal import DIGEST, is_sealed, read_sealed, sealed
from medseg.writers.atomic import write_json

RECORD = {"schema": "medseg-record/1", "case": "Größe\n", "seconds": 1e-05}


@pytest.fixture
def path(tmp_path):
    write_json(tmp_path / "record.json", sealed(RECORD))
    return tmp_path / "record.json"


def test_the_digest_is_of_the_text_of_all_other_entries(path):
    text = json.dumps(RECORD, indent=2, ensure_ascii=False) + "\n"
    assert read_sealed(path) == {**RECORD, DIGEST: hashlib.sha256(text.encode()).hexdigest()}


def test_sealing_twice_is_sealing_once():
    assert sealed(sealed(RECORD)) == sealed(RECORD)


def test_every_single_bit_counts(path):
    """Also where JSON means the same: spaces, `1E-05` for `1e-05`, the digest's own digits in capitals."""
    content = path.read_bytes()
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        assert not is_sealed(path), (bit, bytes(flipped))
    path.write_bytes(content)
    assert is_sealed(path)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text().filter(lambda key: key != DIGEST), plain, max_size=5))
def test_whatever_a_record_holds_it_is_whole_after_writing(tmp_path, content):
    content = {**content, "schema": "medseg-record/1"}
    try:
        write_json(tmp_path / "any.json", sealed(content))
    except UnicodeEncodeError:  # a lone surrogate, which no UTF-8 file can hold
        return
    assert read_sealed(tmp_path / "any.json") == sealed(content)


@pytest.mark.parametrize("name", ["", "nothing/record.json"])
def test_no_record(tmp_path, name):
    with pytest.raises(RecordError, match=r"MS-V101 .*no record here") as caught:
        read_sealed(tmp_path / name)
    assert caught.value.exit_code == 8


@pytest.mark.parametrize("content", [b"", b"{", b"[]\n", b"\xff\xfe", b"[" * 100_000, b'{"schema": NaN}\n'])
def test_what_is_no_record_is_not_read_as_one(path, content):
    path.write_bytes(content)
    with pytest.raises(RecordError, match="MS-V102"):
        read_sealed(path)


def test_the_record_of_something_else(tmp_path):
    write_json(tmp_path / "record.json", sealed({"schema": "medseg-record/99"}))
    with pytest.raises(RecordError, match=r"MS-V101 .*another kind"):
        read_sealed(tmp_path / "record.json")


def test_a_record_without_a_digest(tmp_path):
    write_json(tmp_path / "record.json", RECORD)
    with pytest.raises(RecordError, match=r"MS-V101 .*no digest"):
        read_sealed(tmp_path / "record.json")
