"""Stored values -> grey values: every encoding, bit layout and rescale against a closed form or pydicom itself."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from medseg.errors import InputError
from medseg.readers.dicom import read_one
from medseg.readers.dicom.headers import read_header
from medseg.readers.dicom.pixels import load_stack
from medseg.readers.dicom.planes import plane_of


def large(phantom):
    """Three slices that a JPEG 2000 encoder takes: it halves them five times."""
    stack = phantom.stack(n=3)
    stack.shape = (40, 36)
    return stack


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless], ids=lambda s: s.name)
def test_compressed_is_the_same(tmp_path, phantom, syntax):
    def edit(ds, k):
        ds.compress(syntax)

    volume = read_one(phantom.write_stack(tmp_path, large(phantom), edit=edit))
    assert volume.array.dtype == np.int16
    phantom.assert_faithful(volume, 0.0)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_every_native_syntax_is_the_same(tmp_path, phantom, syntax):
    def edit(ds, k):
        ds.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            ds.PixelData = np.frombuffer(ds.PixelData, "<i2").astype(">i2").tobytes()
            ds.set_original_encoding(is_implicit_vr=False, is_little_endian=False)

    phantom.assert_faithful(read_one(phantom.write_stack(tmp_path, phantom.stack(n=3), edit=edit)), 0.0)


def test_without_preamble_and_meta(tmp_path, phantom):
    folder = phantom.write_stack(tmp_path, phantom.stack(n=3))
    for file in folder.iterdir():
        ds = pydicom.dcmread(file)
        del ds.file_meta, ds.preamble
        ds.save_as(file, implicit_vr=True, little_endian=True)
    phantom.assert_faithful(read_one(folder), 0.0)


def stored(
    tmp_path, phantom, values, *, signed, bits_stored, bits_allocated=16, slope=1.0, intercept=0.0, high_bit=None
):
    """What `load_stack` makes of one slice of these stored values."""
    ds = phantom.dataset(np.zeros(values.shape), slope=slope, intercept=intercept)
    ds.BitsAllocated, ds.BitsStored, ds.PixelRepresentation = bits_allocated, bits_stored, int(signed)
    ds.HighBit = bits_stored - 1 if high_bit is None else high_bit
    ds.PixelData = values.astype(f"<u{bits_allocated // 8}").tobytes() + b"\0" * (values.size % 2)
    ds.save_as(tmp_path / "one")
    header = read_header(tmp_path / "one")
    assert header is not None
    return load_stack([plane_of(header)])[0]


@given(
    bits=st.integers(2, 16),
    signed=st.booleans(),
    intercept=st.integers(-2000, 2000),
    noise=st.integers(0, 2**16 - 1),
    seed=st.integers(0, 99),
)
def test_stored_bits_and_whole_intercepts(tmp_path, phantom, bits, signed, intercept, noise, seed):
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    values = np.random.default_rng(seed).integers(low, high, (3, 4))
    raw = (values & (2**bits - 1)) | (noise & ~(2**bits - 1))  # junk above the stored bits, as overlays leave it
    out = stored(tmp_path, phantom, raw, signed=signed, bits_stored=bits, intercept=float(intercept))
    fits = (values + intercept).min() >= -(2**15) and (values + intercept).max() < 2**15
    assert out.dtype == (np.int16 if fits else np.float32)
    assert np.array_equal(out, values + intercept)


def test_fractional_slope_is_float32_rounded_once(tmp_path, phantom):
    values = np.arange(12).reshape(3, 4) * 1111
    out = stored(tmp_path, phantom, values, signed=False, bits_stored=16, slope=0.1, intercept=-7.3)
    assert out.dtype == np.float32
    assert np.array_equal(out, (values * 0.1 - 7.3).astype(np.float32))


@pytest.mark.parametrize("allocated", [8, 32])
def test_other_sizes(tmp_path, phantom, allocated):
    values = np.arange(12).reshape(3, 4) * 10
    out = stored(
        tmp_path, phantom, values, signed=False, bits_stored=allocated, bits_allocated=allocated, intercept=-5.0
    )
    assert out.dtype == (np.int16 if allocated == 8 else np.float32)
    assert np.array_equal(out, values - 5)


def test_old_files_with_a_shifted_high_bit(tmp_path, phantom):
    values = np.arange(12).reshape(3, 4) * 300
    out = stored(tmp_path, phantom, values << 4, signed=False, bits_stored=12, high_bit=15)
    assert np.array_equal(out, values)


def test_damaged_compressed_data_is_named(tmp_path, phantom):
    folder = phantom.write_stack(tmp_path, large(phantom), edit=lambda ds, k: ds.compress(JPEG2000Lossless))
    data = bytearray((folder / "IM0001").read_bytes())
    at = data.index(b"\xff\x4f\xff\x51")
    data[at : at + 40] = b"\0" * 40
    (folder / "IM0001").write_bytes(data)
    with pytest.raises(InputError, match=r"IM0001: its compressed pixel data \(JPEG 2000") as caught:
        read_one(folder)
    assert caught.value.code == "MS-D111"


def test_unknown_transfer_syntax_is_named(tmp_path, phantom):
    def edit(ds, k):
        ds.compress(RLELossless)
        ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"  # MPEG-4

    with pytest.raises(InputError, match="no decoder for its transfer syntax, MPEG-4") as caught:
        read_one(phantom.write_stack(tmp_path, phantom.stack(n=2), edit=edit))
    assert caught.value.code == "MS-D110"
    assert "pylibjpeg" in caught.value.mend


def test_file_that_shrinks_between_header_and_pixels(tmp_path, phantom):
    folder = phantom.write_stack(tmp_path, phantom.stack(n=1))
    header = read_header(folder / "IM0000")
    assert header is not None
    (folder / "IM0000").write_bytes((folder / "IM0000").read_bytes()[:-10])
    with pytest.raises(InputError, match="60 of 70 bytes") as caught:
        load_stack([plane_of(header)])
    assert caught.value.code == "MS-D109"
