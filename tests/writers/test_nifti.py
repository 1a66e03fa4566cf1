"""What write_nifti writes is what nibabel, SimpleITK and medseg read."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medseg.errors import OutputError
from medseg.geometry import Grid, corner_distance_mm
from medseg.labels import LabelTable
from medseg.readers.nifti import read_nifti
from medseg.writers import nifti
from medseg.writers.nifti import write_nifti

ARRAYS = hnp.arrays(
    st.sampled_from(["u1", "i1", "u2", "i2", ">i2", "u4", "i4", "f4"]),
    hnp.array_shapes(min_dims=3, max_dims=4, min_side=2, max_side=5),
    elements={"allow_nan": False, "allow_infinity": False},
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def random_affine(seed):
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.3, 5, 3)
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    return affine


@given(ARRAYS, st.integers(0, 2**31), st.sampled_from(["x.nii", "x.nii.gz"]))
def test_nibabel_simpleitk_and_medseg_agree(tmp_path_factory, array, seed, name):
    path, affine = tmp_path_factory.mktemp("w") / name, random_affine(seed)
    write_nifti(path, array, affine)
    volume, image = read_nifti(path), nib.load(path)
    np.testing.assert_array_equal(volume.array, array)
    assert volume.array.dtype == array.dtype.newbyteorder("=")
    theirs = np.asanyarray(image.dataobj)
    np.testing.assert_array_equal(np.moveaxis(theirs, -1, 0) if array.ndim == 4 else theirs, array)
    assert corner_distance_mm(volume.grid, Grid(volume.grid.shape, affine)) < 1e-3
    np.testing.assert_allclose(image.affine, affine, rtol=1e-6, atol=1e-4)
    assert [d.code for d in volume.source.decisions if d.code.startswith("MS-N")] == []
    if array.ndim == 3:
        theirs = sitk.ReadImage(path)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(theirs).T, array)
        index = [n - 1 for n in array.shape]
        x, y, z = theirs.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(volume.grid.to_world(np.array(index)), (-x, -y, z), atol=0.05)


@pytest.mark.parametrize(
    ("given_type", "value", "stored"),
    [
        ("bool", 1, "uint8"),
        ("int64", 3, "uint8"),
        ("int64", -3, "int16"),
        ("int64", 2**31, "uint32"),
        ("int64", 2**40, "int64"),
        ("uint64", 2**63, "uint64"),
        ("float64", 0.5, "float32"),
        ("float16", 0.5, "float32"),
    ],
)
def test_types_that_readers_share(tmp_path, given_type, value, stored):
    array = np.zeros((2, 3, 4), given_type)
    array[1, 1, 1] = value
    write_nifti(tmp_path / "x.nii.gz", array, np.eye(4))
    back = np.asanyarray(nib.load(tmp_path / "x.nii.gz").dataobj)
    assert back.dtype == stored
    np.testing.assert_array_equal(back, array)


def test_header(tmp_path):
    table = LabelTable.from_names(["liver", "tumour"])
    write_nifti(tmp_path / "x.nii.gz", np.eye(3, dtype=np.uint8)[..., None], np.diag([1, 2, 3, 1]), labels=table,
                description="ü" * 60)  # fmt: skip
    header = nib.load(tmp_path / "x.nii.gz").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"
    assert header.get_intent()[0] == "label"
    assert header["descrip"].item().decode() == "ü" * 39
    assert header.extensions[0].get_code() == 6
    np.testing.assert_allclose(header["pixdim"][1:4], (1, 2, 3))


def test_one_array_gives_one_file(tmp_path):
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    for name in ("x.nii.gz", "y.nii.gz"):
        write_nifti(tmp_path / name, array if name[0] == "x" else np.asfortranarray(array), np.eye(4))
    assert (tmp_path / "x.nii.gz").read_bytes() == (tmp_path / "y.nii.gz").read_bytes()


def test_a_sheared_affine_is_an_sform_alone(tmp_path):
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    affine[1, 2] = 1.8
    write_nifti(tmp_path / "x.nii.gz", np.arange(60, dtype=np.int16).reshape(3, 4, 5), affine)
    header = nib.load(tmp_path / "x.nii.gz").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (0, 1)
    np.testing.assert_allclose(read_nifti(tmp_path / "x.nii.gz").affine, affine, rtol=1e-6)


def test_long_axes_need_nifti_2(tmp_path):
    array = np.zeros((40000, 1, 1), np.uint8)
    array[-1] = 1
    write_nifti(tmp_path / "x.nii.gz", array, np.eye(4))
    assert isinstance(nib.load(tmp_path / "x.nii.gz"), nib.Nifti2Image)
    np.testing.assert_array_equal(read_nifti(tmp_path / "x.nii.gz").array, array)


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.zeros((2, 3)), "a volume is"),
        (np.zeros((2, 0, 3)), "not empty"),
        (np.zeros((2, 2, 2), complex), "real numbers"),
        (np.full((2, 2, 2), np.nan), "NaN"),
        (np.full((2, 2, 2), 1e300), "beyond float32"),
    ],
)
def test_what_cannot_be_stored(tmp_path, array, match):
    with pytest.raises(ValueError, match=match):
        write_nifti(tmp_path / "x.nii.gz", array, np.eye(4))
    assert names(tmp_path) == []


def test_the_name_must_say_nifti(tmp_path):
    with pytest.raises(ValueError, match=r"\.nii\.gz or \.nii"):
        write_nifti(tmp_path / "x.nrrd", np.zeros((2, 2, 2), np.uint8), np.eye(4))


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_a_disk_that_changes_bytes_is_found_out(tmp_path, monkeypatch, name):
    copy = nifti._copy

    def torn(stream, head, flat):
        changed = bytearray(flat)
        changed[7] ^= 1
        copy(stream, head, memoryview(changed))

    monkeypatch.setattr(nifti, "_copy", torn)
    with pytest.raises(OutputError, match="could not be read back") as caught:
        write_nifti(tmp_path / name, np.zeros((3, 3, 3), np.uint8), np.eye(4))
    assert caught.value.code == "MS-O105"
    assert names(tmp_path) == []


def test_the_stdlib_decompresses_it(tmp_path):
    write_nifti(tmp_path / "x.nii.gz", np.zeros((64, 64, 64), np.uint8), np.eye(4))
    assert len(gzip.decompress((tmp_path / "x.nii.gz").read_bytes())) == 352 + 64**3
