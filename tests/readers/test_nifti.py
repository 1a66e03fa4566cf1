"""NIfTI: exact against nibabel and SimpleITK, and a refusal with the right code for everything broken."""

from __future__ import annotations

import gzip
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medseg.errors import GeometryError, InputError, MemoryLimitError
from medseg.geometry import Grid, corner_distance_mm
from medseg.readers import payload
from medseg.readers.nifti import read_nifti
from medseg.readers.options import ReadOptions
from medseg.writers.nifti import write_nifti

DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4"]


def codes(volume):
    return [decision.code for decision in volume.source.decisions]


def field(raw: bytes, at: int, value, dtype: str) -> bytes:
    new = np.array(value, dtype).tobytes()
    return raw[:at] + new + raw[at + len(new) :]


# Oracles -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("endian", ["<", ">"])
def test_is_exact(nifti, array, affine, name, version, endian):
    volume = read_nifti(nifti(name, version=version, endian=endian))
    np.testing.assert_array_equal(volume.array, array)
    assert volume.array.dtype == np.int16
    assert volume.array.dtype.isnative
    assert volume.array.flags.writeable
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)
    assert codes(volume) == []


@given(
    hnp.arrays(st.sampled_from(DTYPES), hnp.array_shapes(min_dims=3, max_dims=4, min_side=1, max_side=6),
               elements={"allow_nan": False, "allow_infinity": False}),
    st.integers(0, 2**31),
)  # fmt: skip
def test_agrees_with_nibabel(tmp_path_factory, values, seed):
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.3, 5, 3)
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    path = tmp_path_factory.mktemp("n") / "x.nii.gz"
    nib.Nifti1Image(values, affine, dtype=values.dtype).to_filename(path)
    image, volume = nib.load(path), read_nifti(path)
    theirs = np.asanyarray(image.dataobj)
    theirs = np.moveaxis(theirs, -1, 0) if theirs.ndim == 4 else theirs
    np.testing.assert_array_equal(volume.array, theirs[0] if theirs.ndim == 4 and len(theirs) == 1 else theirs)
    assert volume.array.dtype == values.dtype
    assert corner_distance_mm(volume.grid, Grid(volume.grid.shape, image.affine)) < 1e-3


def test_lies_where_simpleitk_puts_it(tmp_path, array):
    image = sitk.GetImageFromArray(array.T)
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((10, -20, 30))
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    image.SetDirection((rotation * (1, 1, np.linalg.det(rotation))).ravel().tolist())
    sitk.WriteImage(image, tmp_path / "x.nii.gz")
    volume = read_nifti(tmp_path / "x.nii.gz")
    for index in [(0, 0, 0), (3, 0, 5), (3, 4, 5)]:
        x, y, z = image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(volume.grid.to_world(np.array(index)), (-x, -y, z), atol=1e-4)
    np.testing.assert_array_equal(volume.array, array)


def test_the_twelve_axis_orders_of_one_head_are_one_volume(data):
    paths = sorted((data("nifti_quirks") / "nifti_space_48").glob("*.nii.gz"))
    volumes = [read_nifti(path) for path in paths]
    assert len(paths) == 12
    assert [volume.grid.axcodes for volume in volumes] == [path.name[:3] for path in paths]
    heads = [volume.reoriented("RAS") for volume in volumes]
    for head in heads[1:]:
        np.testing.assert_array_equal(head.array, heads[0].array)
        assert corner_distance_mm(head.grid, heads[0].grid) < 1e-3


@pytest.mark.parametrize(
    ("name", "shape", "axcodes", "found"),
    [
        ("nibabel/anatomical.nii", (33, 41, 25), "LAS", []),  # big-endian
        ("nibabel/functional.nii", (20, 17, 21, 3), "LAS", []),  # scaled, 20 time points
        ("nibabel/example4d.nii.gz", (2, 128, 96, 24), "LAS", []),
        ("nibabel/standard.nii.gz", (4, 5, 7), "RAS", []),  # sform alone
        ("niivue_images/CT_pitch.nii.gz", (175, 248, 58), "RAS", []),  # oblique
    ],
)
def test_real_files_of_unusual_kind(data, name, shape, axcodes, found):
    path = data("nifti_quirks") / name
    volume, image = read_nifti(path), nib.load(path)
    theirs = np.asarray(image.dataobj)
    theirs = np.moveaxis(theirs, -1, 0) if theirs.ndim == 4 else theirs
    np.testing.assert_array_equal(volume.array, theirs.astype(volume.array.dtype))
    assert (volume.array.shape, volume.grid.axcodes, codes(volume)) == (shape, axcodes, found)
    assert corner_distance_mm(volume.grid, Grid(volume.grid.shape, image.affine)) < 1e-3


# Good but odd --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given_name", ["x.hdr", "x.img"])
@pytest.mark.parametrize("image_class", [nib.Nifti1Pair, nib.Nifti2Pair])
def test_reads_a_pair_by_either_name(tmp_path, array, affine, given_name, image_class):
    image_class(array, affine).to_filename(tmp_path / "x.img")
    volume = read_nifti(tmp_path / given_name)
    np.testing.assert_array_equal(volume.array, array)
    assert [file.name for file in volume.source.files] == ["x.hdr", "x.img"]


@pytest.mark.parametrize(("made", "named"), [("a.nii.gz", "x.nii"), ("a.nii", "x.nii.gz")])
def test_goes_by_content_not_by_name(nifti, array, made, named):
    path = nifti(made)
    wrong = path.with_name(named)
    shutil.move(path, wrong)
    volume = read_nifti(wrong)
    np.testing.assert_array_equal(volume.array, array)
    assert codes(volume) == ["MS-N201"]


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_extra_bytes_are_noticed(nifti, array, name):
    volume = read_nifti(nifti(name, tail=b"abc"))
    np.testing.assert_array_equal(volume.array, array)
    assert codes(volume) == ["MS-N202"]
    assert "3 bytes" in volume.source.decisions[0].message


def test_bytes_behind_a_complete_gzip_stream_are_refused(nifti):
    path = nifti()
    path.write_bytes(path.read_bytes() + b"something else follows")
    with pytest.raises(InputError, match="Not a gzipped file") as caught:
        read_nifti(path)
    assert caught.value.code == "MS-F121"


def test_gzip_in_several_members_is_one_file(nifti, array):
    path = nifti("x.nii")
    raw = path.read_bytes()
    path.with_name("y.nii.gz").write_bytes(b"".join(gzip.compress(raw[n : n + 100]) for n in range(0, len(raw), 100)))
    np.testing.assert_array_equal(read_nifti(path.with_name("y.nii.gz")).array, array)


def test_trailing_axes_of_one_are_dropped_and_slices_may_be_single(nifti, array):
    assert read_nifti(nifti(array=array[..., None, None])).array.shape == (4, 5, 6)
    assert read_nifti(nifti(array=array[:, :, :1])).array.shape == (4, 5, 1)


def test_labels_beyond_2_to_the_24_are_exact(nifti):
    labels = np.full((3, 3, 3), 2**24 + 1, np.int32)
    labels[0] = 0
    np.testing.assert_array_equal(read_nifti(nifti(array=labels)).array, labels)


# Scaling and number types --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("slope", "inter"), [(0, 500), (np.nan, 500), (1, 0)])
def test_no_scaling_keeps_the_stored_integers(nifti, array, slope, inter):
    volume = read_nifti(nifti(scl_slope=slope, scl_inter=inter))
    np.testing.assert_array_equal(volume.array, array)
    assert volume.array.dtype == np.int16


@pytest.mark.parametrize(("slope", "inter"), [(1, -1024), (0.013, 7.5), (-2, 0)])
def test_scaling_agrees_with_nibabel(nifti, slope, inter):
    path = nifti(scl_slope=slope, scl_inter=inter)
    volume = read_nifti(path)
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, nib.load(path).get_fdata().astype(np.float32))


def test_whole_numbers_that_float32_would_round_become_float64(nifti):
    values = np.full((2, 2, 2), 2**25 + 1, np.int32)
    values[0, 0, 0] = 3
    volume = read_nifti(nifti(array=values, scl_slope=1, scl_inter=2))
    np.testing.assert_array_equal(volume.array, values.astype(float) + 2)


def test_float64_becomes_float32_unless_that_loses_whole_numbers(nifti):
    values = np.linspace(-1, 1, 27).reshape(3, 3, 3)
    volume = read_nifti(nifti(array=values))
    assert (volume.array.dtype, codes(volume)) == (np.float32, ["MS-F203"])
    assert not volume.source.decisions[0].warning
    values[0, 0, 0] = 2**30 + 1
    assert read_nifti(nifti(array=values)).array.dtype == np.float64


@pytest.mark.parametrize(("slope", "inter"), [(np.inf, 0), (2, np.nan), (2, np.inf)])
def test_scaling_that_is_no_number_is_refused(nifti, slope, inter):
    with pytest.raises(InputError, match="scl_slope") as caught:
        read_nifti(nifti(scl_slope=slope, scl_inter=inter))
    assert caught.value.code == "MS-N106"


def test_scaling_beyond_float32_is_refused(nifti):
    with pytest.raises(InputError, match="beyond any intensity") as caught:
        read_nifti(nifti(scl_slope=1e38))
    assert caught.value.code == "MS-F114"


# NaN, constant -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_nonfinite_voxels_are_refused_or_filled(nifti, bad, dtype):
    values = np.arange(27, dtype=dtype).reshape(3, 3, 3)
    values[1, 2, 0] = values[2, 2, 2] = bad
    path = nifti(array=values)
    with pytest.raises(InputError, match=r"2 of 27 voxels .* first at \(1, 2, 0\)") as caught:
        read_nifti(path)
    assert caught.value.code == "MS-F112"
    assert "--nonfinite fill:" in caught.value.mend
    volume = read_nifti(path, ReadOptions(nonfinite="fill:-1024"))
    assert "MS-F201" in codes(volume)
    assert volume.array[1, 2, 0] == volume.array[2, 2, 2] == -1024
    assert volume.array[0, 0, 1] == 1


def test_an_image_of_nan_is_refused_even_with_a_fill(nifti):
    path = nifti(array=np.full((3, 3, 3), np.nan, np.float32))
    with pytest.raises(InputError, match="every voxel") as caught:
        read_nifti(path, ReadOptions(nonfinite="fill:0"))
    assert caught.value.code == "MS-F111"


def test_a_constant_image_is_noticed(nifti):
    assert codes(read_nifti(nifti(array=np.full((3, 3, 3), 7, np.int16)))) == ["MS-F202"]


# Broken headers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "code", "match"),
    [
        ({"dim": [3, 0, 5, 6, 1, 1, 1, 1]}, "MS-N102", "impossible dimensions"),
        ({"dim": [3, -4, 5, 6, 1, 1, 1, 1]}, "MS-N102", "impossible dimensions"),
        ({"dim": [0, 4, 5, 6, 1, 1, 1, 1]}, "MS-N102", "impossible dimensions"),
        ({"dim": [9, 4, 5, 6, 1, 1, 1, 1]}, "MS-N102", "impossible dimensions"),
        ({"dim": [2, 20, 6, 1, 1, 1, 1, 1]}, "MS-N103", "2 dimensions"),
        ({"dim": [5, 2, 2, 5, 3, 2, 1, 1]}, "MS-N103", "5 dimensions"),
        ({"datatype": 128}, "MS-N104", "RGB"),
        ({"datatype": 32}, "MS-N104", "complex"),
        ({"datatype": 1}, "MS-N104", "bits"),
        ({"datatype": 77}, "MS-N104", "unknown datatype"),
        ({"vox_offset": 12}, "MS-N105", "byte 12"),
        ({"vox_offset": np.nan}, "MS-N105", "vox_offset"),
        ({"vox_offset": 10_000}, "MS-F120", "ends early"),
    ],
)
@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_broken_headers_are_refused(nifti, fields, code, match, name):
    path = nifti(name, **fields)
    with pytest.raises(InputError, match=match) as caught:
        read_nifti(path)
    assert (caught.value.code, caught.value.file) == (code, str(path))
    assert caught.value.mend


def test_a_pair_without_its_image_is_refused(tmp_path, array, affine):
    nib.Nifti1Pair(array, affine).to_filename(tmp_path / "x.img")
    (tmp_path / "x.img").unlink()
    with pytest.raises(InputError, match=r"x\.img, which is not beside it") as caught:
        read_nifti(tmp_path / "x.hdr")
    assert caught.value.code == "MS-N107"


# Broken bytes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [1, 100, 347, 352, 353, -1])
def test_a_cut_file_is_refused(nifti, keep):
    path = nifti("x.nii")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"x\.nii") as caught:
        read_nifti(path)
    assert caught.value.code in {"MS-F107", "MS-N101", "MS-F108", "MS-F120"}
    if keep >= 352 or keep < 0:
        assert caught.value.code == "MS-F120"


@pytest.mark.parametrize("lost", [1, 4, 8, 9, 50])
def test_a_cut_gzip_is_refused(nifti, lost):
    path = nifti()
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(InputError, match="ends early") as caught:
        read_nifti(path)
    assert caught.value.code == "MS-F120"


@given(st.data())
def test_no_flipped_bit_in_a_gzip_changes_a_voxel_unseen(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("flip")
    array = np.arange(120, dtype=np.int16).reshape(4, 5, 6) % 17
    write_nifti(folder / "x.nii.gz", array, np.eye(4))
    raw = bytearray((folder / "x.nii.gz").read_bytes())
    at = data.draw(st.integers(10, len(raw) - 1))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    (folder / "x.nii.gz").write_bytes(bytes(raw))
    try:
        volume = read_nifti(folder / "x.nii.gz")
    except InputError as error:
        assert error.code in {"MS-F107", "MS-F108", "MS-F120", "MS-F121", "MS-N101"}  # noqa: PT017
    else:  # deflate has a few bits that mean nothing
        np.testing.assert_array_equal(volume.array, array)


@pytest.mark.parametrize("back", [8, 7, 6, 5, 4, 3, 2, 1])
def test_a_wrong_checksum_or_length_is_refused(nifti, back):
    path = nifti()
    raw = bytearray(path.read_bytes())
    raw[-back] ^= 0x10
    path.write_bytes(bytes(raw))
    with pytest.raises(InputError, match="corrupt") as caught:
        read_nifti(path)
    assert caught.value.code == "MS-F121"


def test_huge_dimensions_are_refused_before_memory_is_taken(nifti, monkeypatch):
    monkeypatch.setattr(payload.np, "empty", lambda *a, **k: pytest.fail("allocated"))
    for name in ("x.nii", "x.nii.gz"):
        with pytest.raises(InputError, match=r"header declares|ends early") as caught:
            read_nifti(nifti(name, dim=[3, 32767, 32767, 32767, 1, 1, 1, 1]))
        assert caught.value.code == "MS-F120"


def test_a_bomb_is_refused_by_its_header(tmp_path, monkeypatch):
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((256, 256, 256))
    header.set_sform(np.eye(4), 1)
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(gzip.compress(header.binaryblock + bytes(4 + 2**24), 9))
    with pytest.raises(InputError, match="--max-voxels 16777216") as caught:
        read_nifti(path, ReadOptions(max_voxels=2**20))
    assert caught.value.code == "MS-F113"
    monkeypatch.setattr(payload.psutil, "virtual_memory", lambda: type("M", (), {"available": 2**20}))
    with pytest.raises(MemoryLimitError, match=r"0\.0156 GiB") as caught:
        read_nifti(path)
    assert caught.value.code == "MS-M110"


def test_endless_data_behind_the_image_are_refused(nifti, monkeypatch):
    monkeypatch.setattr(payload, "_MAX_EXTRA", 1000)
    with pytest.raises(InputError, match="follow after the image") as caught:
        read_nifti(nifti(tail=bytes(5000)))
    assert caught.value.code == "MS-F122"


def test_another_format_is_refused_by_name(tmp_path):
    (tmp_path / "x.nii.gz").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(InputError, match="git lfs pull") as caught:
        read_nifti(tmp_path / "x.nii.gz")
    assert caught.value.code == "MS-F105"


# Geometry ------------------------------------------------------------------------------------------------------------


def test_sform_and_qform_apart_is_recorded_or_refused(nifti, affine):
    path = nifti(qoffset_x=62.0)
    volume = read_nifti(path)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)
    assert codes(volume) == ["MS-N210"]
    assert "50 mm apart" in volume.source.decisions[0].message
    with pytest.raises(GeometryError, match="50 mm apart") as caught:
        read_nifti(path, ReadOptions(strict=True))
    assert caught.value.code == "MS-N113"


@pytest.mark.parametrize("angle", [180.0, 179.99, 90.0, 0.01])
def test_rounding_of_the_quaternion_is_no_disagreement(nifti, angle):
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    affine = np.array([[c, -s, 0, 100.0], [s, c, 0, -200.0], [0, 0, 1, 30.0], [0, 0, 0, 1]])
    volume = read_nifti(nifti(array=np.arange(512 * 512, dtype=np.uint8).reshape(512, 512, 1), affine=affine))
    assert codes(volume) == []


def test_qform_alone_is_used(nifti, affine):
    volume = read_nifti(nifti(sform_code=0))
    np.testing.assert_allclose(volume.affine, affine, atol=1e-5)


@given(st.integers(0, 2**31))
def test_qform_agrees_with_nibabel(tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.3, 5, 3)
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    image = nib.Nifti1Image(np.arange(27, dtype=np.uint8).reshape(3, 3, 3), None)
    image.set_qform(affine, 1)
    path = tmp_path_factory.mktemp("q") / "x.nii"
    image.to_filename(path)
    np.testing.assert_allclose(read_nifti(path).affine, nib.load(path).affine, atol=1e-4)


@pytest.mark.parametrize("pixdim", [0.0, -0.8, np.nan])
def test_a_broken_qform_yields_to_the_sform(nifti, affine, pixdim):
    volume = read_nifti(nifti(edit=lambda raw: field(raw, 80, pixdim, "<f4")))
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)
    assert codes(volume) == ["MS-N214"]
    with pytest.raises(GeometryError, match="qform is broken") as caught:
        read_nifti(nifti(edit=lambda raw: field(raw, 80, pixdim, "<f4"), sform_code=0))
    assert caught.value.code == "MS-N112"


@pytest.mark.parametrize("pixdim", [0.0, 3.0])
def test_pixdim_beside_a_lone_sform_is_only_noticed(nifti, affine, pixdim):
    volume = read_nifti(nifti(edit=lambda raw: field(raw, 80, pixdim, "<f4"), qform_code=0))
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)
    assert codes(volume) == ["MS-N215"]


@pytest.mark.parametrize("row", [[np.nan, 0, 0, 0], [0, 0, 0, 0], [np.inf, 0, 0, 0], [1, 1, 0, 0]])
def test_a_broken_sform_is_refused(nifti, row):
    fields = {"srow_x": row, "srow_y": [0, 0, 0, 0]} if row == [0, 0, 0, 0] else {"srow_x": row}
    if row == [1, 1, 0, 0]:
        fields = {"srow_x": row, "srow_y": row}
    with pytest.raises(GeometryError, match="sform is broken") as caught:
        read_nifti(nifti(**fields))
    assert caught.value.code == "MS-N111"


def test_no_orientation_is_refused_or_assumed(nifti):
    path = nifti(qform_code=0, sform_code=0)
    with pytest.raises(GeometryError, match="--assume-orientation RAS") as caught:
        read_nifti(path)
    assert caught.value.code == "MS-N110"
    for axcodes in ("RAS", "LPS", "PIR"):
        volume = read_nifti(path, ReadOptions(assume_orientation=axcodes))
        assert volume.grid.axcodes == axcodes
        np.testing.assert_allclose(volume.spacing_mm, (0.8, 0.9, 2.5), atol=1e-6)
        np.testing.assert_allclose(volume.grid.corners_mm.mean(axis=0), 0, atol=1e-9)
        assert codes(volume) == ["MS-N211"]
    broken = nifti(qform_code=0, sform_code=0, edit=lambda raw: field(raw, 84, 0.0, "<f4"))
    with pytest.raises(GeometryError, match="no usable spacing") as caught:
        read_nifti(broken, ReadOptions(assume_orientation="RAS"))
    assert caught.value.code == "MS-N115"


@pytest.mark.parametrize(("units", "factor"), [(3, 1e-3), (1, 1e3)])
def test_units_are_converted(nifti, affine, units, factor):
    volume = read_nifti(nifti(xyzt_units=units))
    np.testing.assert_allclose(volume.affine[:3], affine[:3] * factor, rtol=1e-5)
    assert codes(volume) == ["MS-N212"]


def test_shear_is_kept_and_recorded_but_not_when_tiny(nifti):
    tilted = np.diag([1.0, 1.0, 5.0, 1.0])
    tilted[1, 2] = 5 * np.tan(np.radians(20))
    volume = read_nifti(nifti(affine=np.eye(4), srow_x=tilted[0], srow_y=tilted[1], srow_z=tilted[2], qform_code=0,
                              edit=lambda raw: field(raw, 80, [1, 1, 5 / np.cos(np.radians(20))], "<f4")))  # fmt: skip
    np.testing.assert_allclose(volume.affine, tilted, atol=1e-6)
    assert codes(volume) == ["MS-N213"]
    tilted[1, 2] = 2e-4
    volume = read_nifti(nifti(affine=np.eye(4), srow_x=tilted[0], srow_y=tilted[1], srow_z=[0, 0, 1, 0], qform_code=0))
    assert codes(volume) == []


def test_a_written_label_table_comes_back(tmp_path):
    from medseg.labels import Code, LabelTable

    table = LabelTable.from_names(["left lung", "right lung"])
    table = LabelTable((replace(table.labels[0], type=Code("SCT", "44029006", "Left lung")), table.labels[1]))
    write_nifti(tmp_path / "x.nii.gz", np.eye(3, dtype=np.uint8)[..., None], np.eye(4), labels=table)
    assert read_nifti(tmp_path / "x.nii.gz").labels == table


def test_a_comment_of_others_is_no_label_table(tmp_path, array, affine):
    image = nib.Nifti1Image(array, affine)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"not json"))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b'{"medseg": 5}'))
    image.to_filename(tmp_path / "x.nii.gz")
    volume = read_nifti(tmp_path / "x.nii.gz")
    assert volume.labels is None
    np.testing.assert_array_equal(volume.array, array)
