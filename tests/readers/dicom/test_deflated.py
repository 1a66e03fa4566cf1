"""Deflated files: their headers are those of the same file as it was, and a bomb is not unpacked."""

from __future__ import annotations

import tracemalloc
import zlib

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medseg.errors import MedsegError, MemoryLimitError
from medseg.readers.dicom import read_one
from medseg.readers.dicom.deflated import _start, deflated_header, read_tags, require_inflatable
from medseg.readers.dicom.headers import read_header


def deflate(ds, _k=0):
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian


@pytest.fixture
def bomb(tmp_path, phantom):
    """A slice of 7 x 5 pixels whose deflate stream goes on for 1 GiB of zeros, in about 1 MB."""
    folder = phantom.write_stack(tmp_path / "bomb", phantom.stack(n=1), edit=deflate)
    (file,) = folder.iterdir()
    data = file.read_bytes()
    start = _start(file)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(zlib.decompress(data[start:], -zlib.MAX_WBITS))
    packed += b"".join(packer.compress(bytes(1 << 24)) for _ in range(64)) + packer.flush()
    file.write_bytes(data[:start] + packed)
    assert file.stat().st_size < 2e6
    return file


def test_headers_are_the_same(tmp_path, phantom):
    plain = phantom.write_stack(tmp_path / "plain", phantom.stack(n=1))
    packed = phantom.write_stack(tmp_path / "packed", phantom.stack(n=1), edit=deflate)
    (one,), (two,) = ([read_header(file) for file in folder.iterdir()] for folder in (plain, packed))
    assert {k: v for k, v in two.values.items() if k != "sop_uid"} == {
        k: v for k, v in one.values.items() if k != "sop_uid"
    }
    assert two.syntax == DeflatedExplicitVRLittleEndian


def test_other_files_are_none(tmp_path, phantom):
    (file,) = phantom.write_stack(tmp_path, phantom.stack(n=1)).iterdir()
    assert deflated_header(file, []) is None
    require_inflatable(file, 1)
    assert read_tags(file).PatientID == "SECRET-ID"
    assert len(read_tags(file, [0x00100020])) == 1


def test_all_tags_of_a_deflated_file(tmp_path, phantom):
    (file,) = phantom.write_stack(tmp_path, phantom.stack(n=1), edit=deflate).iterdir()
    assert read_tags(file).PatientID == "SECRET-ID"
    assert [str(element.tag) for element in read_tags(file, [0x00100020])] == ["(0010,0020)"]
    assert "PixelData" not in read_tags(file)


def test_the_header_of_a_bomb_takes_no_memory(bomb):
    tracemalloc.start()
    header = read_header(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert header.get("rows") == 7
    assert peak < 200e6
    with pytest.raises(MemoryLimitError, match=r"MS-D144 .*more than 64 MiB"):
        require_inflatable(bomb, 64 << 20)


def test_a_bomb_is_refused(bomb):
    with pytest.raises(MedsegError) as caught:
        read_one(bomb.parent)
    assert caught.value.code == "MS-D143"
    assert caught.value.file == str(bomb)
