"""Tags without pixels: compared with pydicom's own decoding of every real file."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from medseg.errors import InputError
from medseg.readers.dicom.headers import find_files, read_header, read_headers
from medseg.readers.dicom.objects import refusal
from medseg.readers.dicom.pixels import check_size
from medseg.readers.dicom.planes import check_plane, plane_of
from medseg.readers.sniff import looks_like_dicom


def test_every_value_is_pydicoms(data):
    headers, _, _ = read_headers(find_files(data("dicom") / "dev"))
    assert len(headers) > 400
    keywords = {"position": "ImagePositionPatient", "orientation": "ImageOrientationPatient", "rows": "Rows"}
    keywords |= {"pixel_spacing": "PixelSpacing", "intercept": "RescaleIntercept", "slope": "RescaleSlope"}
    keywords |= {"image_type": "ImageType", "series_uid": "SeriesInstanceUID", "bits_stored": "BitsStored"}
    keywords |= {"instance_number": "InstanceNumber", "modality": "Modality", "frames": "NumberOfFrames"}
    for header in headers:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = pydicom.dcmread(header.path, stop_before_pixels=True, force=True)
            for name, keyword in keywords.items():
                value = ds.get(keyword)
                ours = header.get(name)
                if value is None or value == "":
                    assert ours is None, (header.path, name)
                elif isinstance(value, str | int) and not isinstance(ours, tuple):
                    assert ours == value, (header.path, name)
                else:
                    theirs = [v.strip() if isinstance(v, str) else v for v in np.atleast_1d(value)]
                    assert list(ours) == theirs, (header.path, name)
            if header.description:
                assert header.description == str(ds.SeriesDescription).strip()


def test_pixel_offset_points_at_the_first_pixel(tmp_path, phantom):
    folder = phantom.write_stack(tmp_path, phantom.stack(n=1))
    header = read_header(folder / "IM0000")
    assert header is not None
    raw = header.path.read_bytes()[header.pixel_offset :][: header.pixel_length]
    assert raw.startswith(pydicom.dcmread(header.path).PixelData)


def test_description_in_its_own_character_set(tmp_path, phantom):
    def edit(ds, k):
        ds.SpecificCharacterSet, ds.SeriesDescription = "ISO_IR 192", "Schädel β"

    folder = phantom.write_stack(tmp_path, phantom.stack(n=1), edit=edit)
    header = read_header(folder / "IM0000")
    assert header is not None
    assert header.description == "Schädel β"


def test_no_patient_tag_is_kept(tmp_path, phantom):
    header = read_header(phantom.write_stack(tmp_path, phantom.stack(n=1)) / "IM0000")
    assert "SECRET" not in repr(header).upper()


@pytest.mark.parametrize("cut", range(132, 900, 37))
def test_a_cut_file_is_damaged_or_says_that_pixels_are_missing(tmp_path, phantom, cut):
    whole = (phantom.write_stack(tmp_path, phantom.stack(n=1)) / "IM0000").read_bytes()
    (tmp_path / "cut").write_bytes(whole[:cut])
    with pytest.raises(InputError) as caught:  # noqa: PT012 - either the header or the size tells
        header = read_header(tmp_path / "cut")
        assert header is not None
        check_size(header)
        check_plane(plane_of(header))
    assert caught.value.code in ("MS-D101", "MS-D108", "MS-D109")


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"\0" * 128 + b"DICM", True),
        (b"\x08\0\x05\0\x0a\0\0\0ISO_IR 100", True),
        (b"\x08\0\x05\0CS\x0a\0ISO_IR 100", True),
        (b"\0\x08\0\x05CS\0\x0aISO_IR 100", True),
        (b"", False),
        (b"\x1f\x8b" + b"\0" * 200, False),
        (b"NRRD0004\n" + b"x" * 200, False),
        (b"\x5c\x01\0\0" + b"\0" * 200, False),  # NIfTI
        (b"<html>" + b" " * 200, False),
    ],
)
def test_looks_like_dicom(head, expected):
    assert looks_like_dicom(head) is expected


def test_a_dicomdir_under_another_name_is_not_damaged():
    folder = Path(get_testdata_file("CT_small.dcm", download=False) or "").parent / "dicomdirtests"
    header = read_header(folder / "DICOMDIR-implicit")
    assert header is not None
    assert "Directory" in str(refusal(header))


def test_unreadable_number_of_an_unneeded_tag_is_absent(tmp_path, phantom):
    folder = phantom.write_stack(tmp_path, phantom.stack(n=1))
    raw = (folder / "IM0000").read_bytes()
    at = raw.index(b"\x20\0\x13\0IS")
    (folder / "IM0000").write_bytes(raw[: at + 8] + b"x" + raw[at + 9 :])
    header = read_header(folder / "IM0000")
    assert header is not None
    assert header.get("instance_number") is None
