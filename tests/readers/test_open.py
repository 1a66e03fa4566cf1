"""Any path to its volumes, and to one row each in `medseg inspect`."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.data import get_testdata_file, get_testdata_files

from medseg.errors import ChoiceError, InputError, MedsegError, UsageError
from medseg.readers.open import image_name, read, read_all, survey
from medseg.readers.options import ReadOptions

ARRAY = np.arange(60, dtype=np.int16).reshape(3, 4, 5)


def write(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if ".nii" in name or name.endswith(".img"):
            (nib.Nifti1Pair if name.endswith(".img") else nib.Nifti1Image)(ARRAY, np.eye(4)).to_filename(path)
        else:
            sitk.WriteImage(sitk.GetImageFromArray(ARRAY.T), path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.img", "a.nrrd", "a.nhdr", "a.mha", "a.mhd"])
def test_every_format_by_file_and_by_folder(tmp_path, name):
    write(tmp_path, name)
    (tmp_path / "notes.txt").write_text("hello", encoding="utf-8")
    (tmp_path / ".DS_Store").write_bytes(b"junk")
    for volume in (read(tmp_path / name), read(tmp_path), read(str(tmp_path)), *read_all(tmp_path)):
        np.testing.assert_array_equal(volume.array, ARRAY)
    (row,) = survey(tmp_path)
    assert (row.name, row.verdict, row.shape, row.refused) == ("a", "ok", (3, 4, 5), False)
    assert survey(tmp_path / name)[0].name == "a"


def test_several_images_are_a_choice(tmp_path):
    write(tmp_path, "b.nii.gz", "sub/a.nrrd")
    with pytest.raises(ChoiceError, match="2 images, where one is wanted") as caught:
        read(tmp_path)
    assert caught.value.code == "MS-F110"
    assert caught.value.candidates == ("b.nii.gz", str(Path("sub", "a.nrrd")))
    assert [v.source.path.name for v in read_all(tmp_path)] == ["b.nii.gz", "a.nrrd"]


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    with pytest.raises(InputError, match="no file in this folder") as caught:
        read(tmp_path)
    assert caught.value.code == "MS-F109"
    (tmp_path / "notes.txt").write_text("hello", encoding="utf-8")
    for function in (read, read_all, survey):
        with pytest.raises(InputError, match=r"no image in this folder \(found: 1 text\)") as caught:
            function(tmp_path)
        assert caught.value.code == "MS-F109"


def test_one_bad_file_is_one_row(tmp_path):
    write(tmp_path, "a.nii.gz", "c.mha")
    (tmp_path / "b.nii.gz").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "d.nii.gz").touch()
    (tmp_path / "e.mgz").write_bytes((tmp_path / "a.nii.gz").read_bytes()[:-9])
    rows = {row.name: row for row in survey(tmp_path)}
    assert {name: row.code for name, row in rows.items()} == {
        "a": None, "b": "MS-F105", "c": None, "d": "MS-F104", "e": "MS-F120",
    }  # fmt: skip
    assert rows["b"].verdict == "refused"
    assert "git lfs pull" in rows["b"].message
    with pytest.raises(InputError, match="Git-LFS"):
        read_all(tmp_path)


def test_a_lone_pointer_is_refused_not_passed_over(tmp_path):
    (tmp_path / "b.nii.gz").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(InputError, match="git lfs pull"):
        read(tmp_path)


def test_a_path_that_is_not_there(tmp_path):
    for function in (read, read_all, survey):
        with pytest.raises(InputError, match="no such file") as caught:
            function(tmp_path / "absent")
        assert caught.value.code == "MS-F101"


def test_unknown_files_are_refused_by_name(tmp_path):
    (tmp_path / "x.pdf").write_bytes(b"%PDF-1.4")
    with pytest.raises(InputError, match="this is PDF") as caught:
        read(tmp_path / "x.pdf")
    assert caught.value.code == "MS-F108"


def test_dicom_beside_images(data, tmp_path):
    import shutil

    source = next(p for p in sorted((data("dicom") / "dev").iterdir()) if p.is_dir())
    shutil.copytree(source, tmp_path / "series")
    alone = read_all(tmp_path)
    assert {volume.source.format for volume in alone} == {"dicom"}
    write(tmp_path, "a.nii.gz")
    both = read_all(tmp_path)
    assert [v.source.format for v in both] == ["dicom"] * len(alone) + ["nifti"]
    with pytest.raises(ChoiceError, match="--series") as caught:
        read(tmp_path)
    assert caught.value.code == "MS-F110"
    assert {row.format for row in survey(tmp_path)} >= {"dicom", "nifti"}


def test_odd_names(tmp_path):
    names = ["ünï côdé 头.nii.gz", "a b.nii", "a.b.c.nii.gz"]
    if os.name == "posix":
        names.append("new\nline.nii.gz")
    write(tmp_path, *names)
    assert len(read_all(tmp_path)) == len(names)
    (tmp_path / names[0]).write_bytes(b"")
    assert sum(row.refused for row in survey(tmp_path)) == 1


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a_0000.nii.gz", "a_0000"),
        ("b.seg.nrrd", "b"),
        ("c.NII.GZ", "c"),
        ("d.1.2.nii", "d.1.2"),
        ("e", "e"),
        (".nii", ".nii"),
    ],
)
def test_image_names(tmp_path, name, stem):
    assert image_name(tmp_path / name) == stem


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"assume_orientation": "RAX"}, "MS-U110"),
        ({"assume_orientation": "RLS"}, "MS-U110"),
        ({"nonfinite": "fill"}, "MS-U111"),
        ({"nonfinite": "fill:nan"}, "MS-U111"),
        ({"nonfinite": "drop:3"}, "MS-U111"),
        ({"max_voxels": 0}, "MS-U112"),
    ],
)
def test_options_are_checked(options, code):
    with pytest.raises(UsageError, match=r".") as caught:
        ReadOptions(**options)
    assert caught.value.code == code


def test_fill_values():
    assert ReadOptions().fill is None
    assert ReadOptions(nonfinite="fill:-1024").fill == -1024


def test_pydicoms_files_one_by_one():
    # Odd, damaged and foreign DICOM: a verdict on each, the same from inspecting as from reading, and no other error.
    for file in get_testdata_files():
        path = Path(str(file))
        if path.is_dir() or path.name.startswith("DICOMDIR"):
            continue
        (row,) = survey(path)
        code = None
        try:
            read(path)
        except MedsegError as error:
            code = error.code
        assert (row.code, row.refused) == (code, code is not None), path.name


def test_one_image_in_every_transfer_syntax():
    # Their preamble is the head of a TIFF.
    ends = ("", "_bigendian", "_implicit", "_expb", "_padded", "_RLE", "_jp2klossless", "_jpeg_ls_lossless")
    files = [get_testdata_file(f"MR_small{end}.dcm", download=False) for end in ends]
    first, *others = [read(str(file)).array for file in files if file]
    assert len(others) >= 5
    for other in others:
        np.testing.assert_array_equal(first, other)
