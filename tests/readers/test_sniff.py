"""What a file is, and what is refused before it is opened."""

from __future__ import annotations

import gzip
import os
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medseg.errors import InputError
from medseg.readers.sniff import refuse, require_file, sniff

ARRAY = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")


@pytest.mark.parametrize(
    ("image", "name", "kind"),
    [
        (nib.Nifti1Image, "x.nii", "nifti"),
        (nib.Nifti2Image, "x.nii", "nifti"),
        (nib.Nifti1Image, "x.nii.gz", "gzip-nifti"),
        (nib.Nifti1Pair, "x.hdr", "nifti-pair"),
        (nib.Nifti2Pair, "x.hdr", "nifti-pair"),
        (nib.AnalyzeImage, "x.hdr", "analyze"),
        (nib.MGHImage, "x.mgh", "mgh"),
        (nib.MGHImage, "x.mgz", "gzip-mgh"),
    ],
)
def test_what_nibabel_writes(tmp_path, image, name, kind):
    image(ARRAY, np.eye(4)).to_filename(tmp_path / name)
    assert sniff(tmp_path / name) == kind


@pytest.mark.parametrize("name", ["x.nrrd", "x.nhdr", "x.mha", "x.mhd", "x.nii.gz", "x.png", "x.tif", "x.dcm"])
def test_what_itk_writes(tmp_path, name):
    image = sitk.GetImageFromArray(ARRAY.astype(np.uint16) if "." in name[1:] else ARRAY)
    sitk.WriteImage(image[:, :, 0] if name.endswith("png") else image, tmp_path / name)
    wanted = {"nrrd": "nrrd", "nhdr": "nrrd", "mha": "metaimage", "mhd": "metaimage", "gz": "gzip-nifti"}
    wanted |= {"png": "png", "tif": "tiff", "dcm": "dicom"}
    assert sniff(tmp_path / name) == wanted[name.rsplit(".", 1)[1]]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs"),
        (b"<!DOCTYPE html><html>", "html"),
        (b"\n <HTML>", "html"),
        (b"PK\x03\x04....", "zip"),
        (b"just a note\n", "text"),
        (bytes(range(256)), "unknown"),
        (b"\x08\x00\x05\x00CS\n\x00ISO_IR 100", "dicom"),
        (b"\0\x08\0\x05CS\0\x0aISO_IR 100", "dicom"),
        (bytes(128) + b"DICM" + bytes(10), "dicom"),
        (b"II*\0" + bytes(124) + b"DICM" + bytes(10), "dicom"),  # its preamble is the head of a TIFF
        (gzip.compress(b"just a note", mtime=0), "gzip-text"),
        (gzip.compress(bytes(range(256)), mtime=0)[:20], "gzip-unknown"),
        (b"\x1f\x8b", "gzip-unknown"),
    ],
)
def test_magic_bytes(tmp_path, content, kind):
    (tmp_path / "x.nii.gz").write_bytes(content)
    assert sniff(tmp_path / "x.nii.gz") == kind


def test_dicom_of_real_scanners(data):
    files = [p for p in sorted((data("dicom") / "dev").rglob("*.dcm"))[:50] if p.is_file()]
    assert files
    assert {sniff(path) for path in files} == {"dicom"}


def test_absent(tmp_path):
    with pytest.raises(InputError, match="no such file") as caught:
        sniff(tmp_path / "absent.nii")
    assert caught.value.code == "MS-F101"
    with pytest.raises(InputError, match="null") as caught:
        sniff(Path("a\0b"))
    assert caught.value.code == "MS-F101"
    with pytest.raises(InputError, match=r"cannot be opened|no such") as caught:
        sniff(tmp_path / ("x" * 5000))
    assert caught.value.code == "MS-F101"


def test_empty_and_folder(tmp_path):
    (tmp_path / "x.nii").touch()
    with pytest.raises(InputError, match="0 bytes") as caught:
        sniff(tmp_path / "x.nii")
    assert caught.value.code == "MS-F104"
    with pytest.raises(InputError, match="folder") as caught:
        sniff(tmp_path)
    assert caught.value.code == "MS-F103"


@posix
@pytest.mark.timeout(10)
def test_pipes_and_devices_are_never_opened(tmp_path):
    os.mkfifo(tmp_path / "x.nii")
    for path in (tmp_path / "x.nii", Path("/dev/zero")):
        with pytest.raises(InputError, match="pipe, socket or device") as caught:
            sniff(path)
        assert caught.value.code == "MS-F103"


@posix
def test_links(tmp_path):
    (tmp_path / "a").symlink_to("gone.nii")
    (tmp_path / "b").symlink_to("b")
    with pytest.raises(InputError, match=r"symbolic link to 'gone\.nii', which does not exist"):
        sniff(tmp_path / "a")
    with pytest.raises(InputError, match="symbolic link that leads back"):
        sniff(tmp_path / "b")


def test_no_permission(tmp_path, monkeypatch):
    (tmp_path / "x.nii").write_bytes(b"x")

    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(InputError, match="permission denied") as caught:
        require_file(tmp_path / "x.nii")
    assert caught.value.code == "MS-F102"


@pytest.mark.parametrize(
    ("kind", "code", "match"),
    [
        ("git-lfs", "MS-F105", "git lfs pull"),
        ("html", "MS-F106", "web page"),
        ("gzip-mgh", "MS-F108", "mri_convert"),
        ("analyze", "MS-F108", "left and right"),
        ("zip", "MS-F108", "unpack"),
        ("xz", "MS-F108", "unxz"),
        ("png", "MS-F108", "PNG"),
        ("text", "MS-F107", "plain text"),
        ("gzip-unknown", "MS-F107", "inside gzip"),
        ("gzip-dicom", "MS-F108", "DICOM inside gzip.*\n.*gunzip"),
    ],
)
def test_refusals_say_what_it_is(kind, code, match):
    with pytest.raises(InputError, match=match) as caught:
        refuse(Path("x.nii.gz"), kind)
    assert caught.value.code == code
