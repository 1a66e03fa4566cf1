"""The header of NRRD files, and values that are read back before the file appears."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import OutputError
from medseg.writers import nrrd
from medseg.writers.nrrd import nrrd_head, one_line, write_packed

U1 = np.dtype("u1")


def fields(head: bytes) -> dict[str, str]:
    lines = head.decode().split("\n")
    assert lines[0].startswith("NRRD000")
    assert lines[-2:] == ["", ""], "one empty line ends the header"
    return dict(line.split(": ", 1) for line in lines[1:-2] if ":=" not in line and not line.startswith("#"))


def test_space_is_lps_with_every_digit():
    affine = np.array([[0.1, 0, 0, 10], [0, 1 / 3, 0, -20.5], [0, 0, 2, 30], [0, 0, 0, 1]])
    found = fields(nrrd_head(U1, (4, 5, 6), affine, {}))
    assert found == {
        "type": "unsigned char",
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": "4 5 6",
        "space directions": "(-0.1,0,0) (0,-0.3333333333333333,0) (0,0,2)",
        "kinds": "domain domain domain",
        "endian": "little",
        "encoding": "gzip",
        "space origin": "(-10,20.5,30)",
    }


def test_layers_come_first_and_volumes_last():
    layered = fields(nrrd_head(U1, (4, 5, 6), np.eye(4), {}, layers=2))
    assert layered["sizes"] == "2 4 5 6"
    assert layered["kinds"] == "list domain domain domain"
    assert layered["space directions"].startswith("none (")
    film = fields(nrrd_head(np.dtype("<f4"), (4, 5, 6), np.eye(4), {}, volumes=1, index_name="sample"))
    assert film["sizes"] == "4 5 6 1"
    assert film["kinds"] == "domain domain domain list"
    assert film["space directions"].endswith(") none")
    assert film["labels"] == '"" "" "" "sample"'
    assert film["type"] == "float"


def test_pairs_keep_to_their_line():
    head = nrrd_head(U1, (1, 1, 1), np.eye(4), {"a": "x\ny", "b": "c:\\d", "ü": "größer"})
    assert head.decode().split("\n")[-5:] == ["a:=x\\ny", "b:=c:\\\\d", "ü:=größer", "", ""]


@pytest.mark.parametrize("dtype", ["i8", "f8", "c8", "u8"])
def test_types_that_are_not_written(dtype):
    with pytest.raises(ValueError, match="8 to 32 bits"):
        nrrd_head(np.dtype(dtype), (1, 1, 1), np.eye(4), {})


def test_an_affine_without_volume_is_refused():
    with pytest.raises(ValueError, match="no volume"):
        nrrd_head(U1, (1, 1, 1), np.diag([1.0, 0, 1, 1]), {})


@given(st.text())
def test_one_line_is_one_line_that_utf8_holds(text):
    found = one_line(text)
    assert found == found.strip()
    assert found.encode("utf-8").decode("utf-8") == found
    assert not set(found) & {chr(n) for n in (*range(32), *range(127, 160))}
    assert text != text.strip() or not text.isprintable() or found == text


def test_blocks_follow_the_header(tmp_path):
    blocks = [np.arange(10, dtype="<u2"), np.arange(6, dtype="<u2").reshape(2, 3)]
    write_packed(tmp_path / "x.nrrd", b"head\n\n", iter(blocks))
    data = (tmp_path / "x.nrrd").read_bytes()
    assert data.startswith(b"head\n\n\x1f\x8b\x08\x00\x00\x00\x00\x00"), "no name and no time in the gzip header"
    assert gzip.decompress(data[6:]) == b"".join(block.tobytes() for block in blocks)


def test_a_disk_that_changes_bytes_is_found_out(tmp_path, monkeypatch):
    class Torn(nrrd.igzip.IGzipFile):
        def writelines(self, lines):
            for line in lines:
                self.write(bytes(line)[:-1] + b"?")

    monkeypatch.setattr(nrrd.igzip, "IGzipFile", Torn)
    with pytest.raises(OutputError, match="could not be read back") as caught:
        write_packed(tmp_path / "x.nrrd", b"head\n\n", [np.zeros(100, np.uint8)])
    assert caught.value.code == "MS-O105"
    assert list(tmp_path.iterdir()) == []
