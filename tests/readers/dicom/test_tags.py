"""The walk over a file's tags: whatever it returns is what pydicom finds in the same bytes."""

from __future__ import annotations

import logging
import os
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless

from medseg.readers.dicom import headers
from medseg.readers.dicom.tags import HEAD, UNDEFINED_LENGTH, walk

FIELDS = ("size", "syntax", "pixel_offset", "pixel_length", "values", "dataset")


@pytest.fixture(autouse=True)
def _quiet():
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def walked(path: Path, first: int = HEAD):
    """(the walk, bytes of the file)."""
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        return walk(file, file.read(first), size, headers._NAMES.keys(), headers._FUNCTIONAL_GROUPS), size


def told(make, *args):
    """What a way to a Header gives: its fields, or that it cannot be decoded."""
    try:
        header = make(*args)
    except ValueError:
        return "not decodable"
    return [getattr(header, name) for name in FIELDS]


def assert_pydicoms(path: Path, first: int = HEAD) -> bool:
    """Whether the file was walked; where it was, with pydicom's result."""
    tags, size = walked(path, first)
    if tags is None:
        return False
    assert told(headers._ordinary, path, size, tags) == told(headers._by_pydicom, path, size), path
    return True


def test_every_real_file_tells_what_pydicom_tells(data):
    files = headers.find_files(data("dicom") / "dev")
    done = [assert_pydicoms(path) for path in files]
    assert sum(done) > 400
    assert sum(done) > 0.8 * len(done)  # and few are left to pydicom


def test_pydicoms_own_odd_files():
    files = headers.find_files(Path(pydicom.__file__).parent / "data" / "test_files")
    assert sum(assert_pydicoms(path) for path in files if path.stat().st_size < 4 << 20) > 20


def file_of(folder: Path, phantom, syntax=ExplicitVRLittleEndian, **tags) -> Path:
    """One slice with nested sequences around the wanted tags."""
    ds = phantom.dataset(np.zeros((4, 6)), **tags)
    ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.PixelSpacing = [1, 2, 3], [1, 0, 0, 0, 1, 0], [1, 2]
    inner = pydicom.Dataset()
    inner.Rows, inner.CodeValue, inner.SeriesNumber = 99, "inner", 77
    outer = pydicom.Dataset()
    outer.CodeMeaning, outer.PurposeOfReferenceCodeSequence, outer.InstanceNumber = "outer", [inner, inner], 88
    ds.ReferencedImageSequence = [outer, inner]
    ds.IconImageSequence = []
    ds.file_meta.TransferSyntaxUID = syntax
    path = folder / "slice.dcm"
    for sequence in ("ReferencedImageSequence", "IconImageSequence"):
        ds[sequence].is_undefined_length = True
    for item in ds.ReferencedImageSequence:
        item.is_undefined_length_sequence_item = True
    outer["PurposeOfReferenceCodeSequence"].is_undefined_length = True
    if syntax == JPEG2000Lossless:
        ds.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51"])
        ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    ds.save_as(path, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    return path


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless])
def test_sequences_of_undefined_length_are_walked_over(tmp_path, phantom, syntax):
    path = file_of(tmp_path, phantom, syntax)
    assert b"\xfe\xff\xdd\xe0" in path.read_bytes()
    assert assert_pydicoms(path)
    tags, _ = walked(path)
    assert tags is not None
    assert tags.syntax == syntax
    assert tags.values[0x00280010] == b"\x04\0"  # not the 99 of an item
    assert (tags.pixel_length == UNDEFINED_LENGTH) == (syntax == JPEG2000Lossless)


@pytest.mark.parametrize("first", [140, 300, 512, 1000])
def test_the_tags_may_be_longer_than_the_first_bytes(tmp_path, phantom, first):
    path = file_of(tmp_path, phantom, ImageComments="x" * 5000)
    assert walked(path, first) == walked(path)
    assert assert_pydicoms(path, first)


def test_big_endian_is_left_to_pydicom():
    path = Path(pydicom.__file__).parent / "data" / "test_files" / "ExplVR_BigEnd.dcm"
    assert walked(path)[0] is None
    header = headers.read_header(path)
    assert header is not None
    assert header.get("rows") == pydicom.dcmread(path).Rows


def test_what_is_unusual_is_left_to_pydicom(tmp_path, phantom):
    path = file_of(tmp_path, phantom)
    raw = path.read_bytes()
    rows = raw.rindex(b"\x28\0\x10\0US")
    syntax = raw.index(b"1.2.840.10008.1.2.1\0")
    cases = {
        "unknown VR": raw[: rows + 4] + b"Q?" + raw[rows + 6 :],
        "tags not in order": raw[:rows] + b"\x08\0\x10\0US" + raw[rows + 6 :],
        "implicit where explicit is promised": raw[:syntax] + b"1.2.840.10008.1.2\0\0\0" + raw[syntax + 20 :],
        "a transfer syntax of its own": raw[:syntax] + b"1.2.840.99999.1.2.1\0" + raw[syntax + 20 :],
        "without preamble": raw[132:],
        "cut in a value": raw[: rows + 9],
    }
    for what, content in cases.items():
        path.write_bytes(content)
        assert walked(path)[0] is None, what


def test_deep_nesting_is_left_to_pydicom(tmp_path, phantom):
    raw = file_of(tmp_path, phantom).read_bytes()
    rows = raw.rindex(b"\x28\0\x10\0US")
    nest = b"\x28\0\x09\0SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\xff\xff\xff\xff"
    path = tmp_path / "deep"
    path.write_bytes(raw[:rows] + nest * 5000 + raw[rows:])
    assert walked(path)[0] is None


@given(data=st.data())
def test_damaged_bytes_are_read_as_pydicom_reads_them_or_left_to_it(tmp_path_factory, phantom_bytes, data):
    raw = bytearray(phantom_bytes)
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(132, len(raw) - 1))
        raw[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(raw)), st.integers(140, len(raw))))
    tags = walk(BytesIO(), bytes(raw[:cut]), cut, headers._NAMES.keys(), headers._FUNCTIONAL_GROUPS)  # pyright: ignore[reportArgumentType]
    if tags is None:
        return
    path = tmp_path_factory.getbasetemp() / "damaged.dcm"
    path.write_bytes(raw[:cut])
    try:
        expected = told(headers._by_pydicom, path, cut)
    except Exception:  # noqa: BLE001 - pydicom stumbles over a value that the walk passes over
        return
    assert told(headers._ordinary, path, cut, tags) == expected


@pytest.fixture
def phantom_bytes(tmp_path, phantom):
    return file_of(tmp_path, phantom).read_bytes()
