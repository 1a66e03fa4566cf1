"""NRRD, MetaImage and 3D Slicer segmentations: world positions as ITK has them, refusals for what ITK lets pass."""

from __future__ import annotations

import gzip
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medseg.errors import GeometryError, InputError
from medseg.labels import Code
from medseg.readers.nrrd import read_nrrd
from medseg.readers.options import ReadOptions

HEAD = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "2 3 4",
    "space directions": "(0.5,0,0) (0,0.6,0) (0,0,3)",
    "kinds": "domain domain domain",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(10,-20,30)",
}
META = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "10 -20 30",
    "ElementSpacing": "0.5 0.6 3",
    "DimSize": "2 3 4",
    "ElementType": "MET_SHORT",
}
VALUES = np.arange(24, dtype="<i2").reshape(2, 3, 4)
RAS = np.array([[-0.5, 0, 0, -10], [0, -0.6, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1]])


def codes(volume):
    return [decision.code for decision in volume.source.decisions]


@pytest.fixture
def nrrd(tmp_path):
    """`nrrd(values, data=bytes, pairs={...}, drop=(...), **changed fields)` -> path; '_' in a field is a space."""

    def build(values=VALUES, name="x.nrrd", data=None, pairs=None, drop=(), **fields):
        head = {
            k: v for k, v in {**HEAD, **{k.replace("_", " "): v for k, v in fields.items()}}.items() if k not in drop
        }
        lines = ["NRRD0004", "# made by a test", *(f"{k}: {v}" for k, v in head.items())]
        lines += [f"{k}:={v}" for k, v in (pairs or {}).items()]
        raw = values.tobytes("F") if data is None else data
        (tmp_path / name).write_bytes("\n".join(lines).encode() + b"\n\n" + raw)
        return tmp_path / name

    return build


@pytest.fixture
def meta(tmp_path):
    def build(values=VALUES, name="x.mha", data=None, drop=(), file="LOCAL", **fields):
        head = {k: v for k, v in {**META, **fields}.items() if k not in drop}
        raw = values.tobytes("F") if data is None else data
        text = "".join(f"{k} = {v}\n" for k, v in head.items()) + f"ElementDataFile = {file}\n"
        (tmp_path / name).write_bytes(text.encode() + raw)
        return tmp_path / name

    return build


# ITK as the oracle ---------------------------------------------------------------------------------------------------

ARRAYS = hnp.arrays(
    st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4", "f4"]),
    hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=5),
    elements={"allow_nan": False, "allow_infinity": False},
)


@given(ARRAYS, st.integers(0, 2**31), st.sampled_from(["x.nrrd", "x.nhdr", "x.mha", "x.mhd"]), st.booleans())
def test_agrees_with_itk(tmp_path_factory, values, seed, name, compressed):
    rng = np.random.default_rng(seed)
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.T))
    image.SetSpacing(rng.uniform(0.3, 5, 3).tolist())
    image.SetOrigin(rng.uniform(-300, 300, 3).tolist())
    image.SetDirection(np.linalg.qr(rng.normal(size=(3, 3)))[0].ravel().tolist())
    path = tmp_path_factory.mktemp("n") / name
    sitk.WriteImage(image, path, compressed)
    volume = read_nrrd(path)
    np.testing.assert_array_equal(volume.array, values)
    assert volume.array.dtype == values.dtype
    assert volume.array.flags.writeable
    last = tuple(n - 1 for n in values.shape)
    for index in [(0, 0, 0), last]:
        x, y, z = image.TransformIndexToPhysicalPoint([int(n) for n in index])
        np.testing.assert_allclose(volume.grid.to_world(np.array(index)), (-x, -y, z), atol=1e-3)


@pytest.mark.parametrize("name", ["x.nrrd", "x.mha"])
def test_channels_come_first(tmp_path, name):
    one = sitk.GetImageFromArray(np.arange(60, dtype=np.int16).reshape(3, 4, 5))
    sitk.WriteImage(sitk.Compose([one, one * 2]), tmp_path / name)
    volume = read_nrrd(tmp_path / name)
    np.testing.assert_array_equal(volume.array[1], 2 * volume.array[0])
    np.testing.assert_array_equal(volume.array[0], sitk.GetArrayFromImage(one).T)


# By hand -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (-1, -1, 1)),
        ("LPS", (-1, -1, 1)),
        ("right-anterior-superior", (1, 1, 1)),
        ("left-anterior-superior", (-1, 1, 1)),
    ],
)
def test_spaces(nrrd, space, signs):
    volume = read_nrrd(nrrd(space=space))
    np.testing.assert_allclose(volume.affine, np.diag([*signs, 1]) @ np.diag([-1, -1, 1, 1]) @ RAS)
    np.testing.assert_array_equal(volume.array, VALUES)


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("gz", gzip.compress)])
def test_encodings_and_byte_order(nrrd, encoding, pack):
    big = VALUES.astype(">i2")
    volume = read_nrrd(nrrd(data=pack(big.tobytes("F")), encoding=encoding, endian="big"))
    np.testing.assert_array_equal(volume.array, VALUES)
    assert volume.array.dtype.isnative


def test_bzip2(nrrd):
    import bz2

    path = nrrd(data=bz2.compress(VALUES.tobytes("F")), encoding="bzip2")
    np.testing.assert_array_equal(read_nrrd(path).array, VALUES)


@pytest.mark.parametrize("last", [False, True])
def test_a_list_axis_may_come_first_or_last(nrrd, last):
    stack = np.stack([VALUES, VALUES + 100])
    directions = HEAD["space directions"].split(" ")
    fields = {"dimension": "4"}
    if last:
        path = nrrd(np.moveaxis(stack, 0, -1), sizes="2 3 4 2", space_directions=" ".join([*directions, "none"]),
                    kinds="domain domain domain list", **fields)  # fmt: skip
    else:
        path = nrrd(stack, sizes="2 2 3 4", space_directions=" ".join(["none", *directions]),
                    kinds="list domain domain domain", **fields)  # fmt: skip
    volume = read_nrrd(path)
    np.testing.assert_array_equal(volume.array, stack)
    np.testing.assert_allclose(volume.affine, RAS)


def test_detached_data_with_skips(nrrd, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.raw").write_bytes(b"a line\n123" + VALUES.tobytes("F"))
    path = nrrd(data=b"", name="x.nhdr", data_file="sub/x.raw", line_skip="1", byte_skip="3")
    np.testing.assert_array_equal(read_nrrd(path).array, VALUES)
    path = nrrd(data=b"", name="x.nhdr", data_file="sub/x.raw", byte_skip="-1")
    volume = read_nrrd(path)
    np.testing.assert_array_equal(volume.array, VALUES)
    assert [f.name for f in volume.source.files] == ["x.nhdr", "x.raw"]


def test_detached_slices_in_a_list(nrrd, tmp_path):
    for k in range(4):
        (tmp_path / f"{k}.raw").write_bytes(VALUES[..., k].tobytes("F"))
    path = nrrd(data=b"", name="x.nhdr", data_file="LIST\n0.raw\n1.raw\n2.raw\n3.raw")
    np.testing.assert_array_equal(read_nrrd(path).array, VALUES)


@pytest.mark.parametrize(("unit", "factor"), [("um", 1e-3), ("cm", 10)])
def test_units_are_converted(nrrd, unit, factor):
    volume = read_nrrd(nrrd(space_units=" ".join([f'"{unit}"'] * 3)))
    np.testing.assert_allclose(volume.affine[:3], RAS[:3] * factor)
    assert codes(volume) == ["MS-R212"]


def test_shear_is_recorded(nrrd):
    volume = read_nrrd(nrrd(space_directions="(0.5,0,0) (0,0.6,0) (0,1,3)"))
    assert codes(volume) == ["MS-R213"]
    np.testing.assert_allclose(volume.affine[:3, 2], (0, -1, 3))


def test_no_origin_is_recorded(nrrd):
    volume = read_nrrd(nrrd(drop=("space origin",)))
    assert codes(volume) == ["MS-R214"]
    np.testing.assert_array_equal(volume.affine[:3, 3], 0)


def test_extra_bytes_are_noticed(nrrd, meta):
    assert codes(read_nrrd(nrrd(data=VALUES.tobytes("F") + b"abc"))) == ["MS-R202"]
    assert codes(read_nrrd(meta(data=VALUES.tobytes("F") + b"abc"))) == ["MS-R202"]


@pytest.mark.parametrize("drop", [("space",), ("space", "space directions")])
def test_no_orientation_is_refused_or_assumed(nrrd, drop):
    path = nrrd(drop=drop, spacings="0.5 0.6 3")
    with pytest.raises(GeometryError, match="--assume-orientation") as caught:
        read_nrrd(path)
    assert caught.value.code == "MS-R110"
    volume = read_nrrd(path, ReadOptions(assume_orientation="LPS"))
    assert (volume.grid.axcodes, codes(volume)) == ("LPS", ["MS-R211"])
    np.testing.assert_allclose(volume.spacing_mm, (0.5, 0.6, 3))
    with pytest.raises(GeometryError, match="spacing") as caught:
        read_nrrd(nrrd(drop=("space", "space directions")), ReadOptions(assume_orientation="LPS"))
    assert caught.value.code == "MS-R115"


# MetaImage by hand ---------------------------------------------------------------------------------------------------


def test_meta_header(meta, tmp_path):
    volume = read_nrrd(meta())
    np.testing.assert_allclose(volume.affine, RAS)
    np.testing.assert_array_equal(volume.array, VALUES)
    (tmp_path / "x.raw").write_bytes(b"head" + VALUES.tobytes("F"))
    for skip in ("4", "-1"):
        path = meta(name="x.mhd", file="x.raw", data=b"", HeaderSize=skip)
        np.testing.assert_array_equal(read_nrrd(path).array, VALUES)
    path = meta(
        data=zlib.compress(VALUES.astype(">i2").tobytes("F")), CompressedData="True", BinaryDataByteOrderMSB="True"
    )
    np.testing.assert_array_equal(read_nrrd(path).array, VALUES)


def test_meta_without_orientation(meta):
    with pytest.raises(GeometryError, match="orientation") as caught:
        read_nrrd(meta(drop=("TransformMatrix",)))
    assert caught.value.code == "MS-R110"
    volume = read_nrrd(meta(drop=("TransformMatrix",)), ReadOptions(assume_orientation="RAS"))
    assert volume.grid.axcodes == "RAS"


@pytest.mark.parametrize(
    ("fields", "code", "match"),
    [
        ({"NDims": "2", "DimSize": "6 4"}, "MS-R103", "2 axes"),
        ({"DimSize": "2 3 0"}, "MS-R102", "impossible sizes"),
        ({"DimSize": "2 3"}, "MS-R102", "impossible sizes"),
        ({"DimSize": "30000 30000 30000"}, "MS-F120", "ends early"),
        ({"ElementType": "MET_ASCII_CHAR"}, "MS-R104", "MET_ASCII_CHAR"),
        ({"ElementType": "MET_UCHAR", "ElementNumberOfChannels": "3"}, "MS-R104", "colours"),
        ({"BinaryData": "False"}, "MS-R105", "text"),
        ({"TransformMatrix": "1 0 0 0 1 0 0 0 nan"}, "MS-R112", "TransformMatrix"),
        ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "MS-R112", "parallel"),
        ({"ElementSpacing": "1 1 0"}, "MS-R112", "ElementSpacing"),
        ({"Offset": "1 1 inf"}, "MS-R112", "offset"),
        ({"NDims": "three"}, "MS-R101", "NDims"),
        ({"HeaderSize": "x"}, "MS-R101", "HeaderSize"),
        ({"CompressedData": "True"}, "MS-F121", "corrupt"),
    ],
)
def test_broken_meta_headers(meta, fields, code, match):
    with pytest.raises(InputError, match=match) as caught:
        read_nrrd(meta(**fields))
    assert caught.value.code == code
    assert "x.mha" in str(caught.value)


@pytest.mark.parametrize("lost", [1, 2, 3, 4, 5, 20])
def test_a_cut_or_changed_zlib_stream_is_refused(meta, lost):
    packed = zlib.compress(VALUES.tobytes("F"))
    with pytest.raises(InputError, match="ends early") as caught:
        read_nrrd(meta(data=packed[:-lost], CompressedData="True"))
    assert caught.value.code == "MS-F120"
    changed = bytearray(packed)
    changed[-1] ^= 1
    with pytest.raises(InputError, match="corrupt") as caught:
        read_nrrd(meta(data=bytes(changed), CompressedData="True"))
    assert caught.value.code == "MS-F121"


# Refused -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "code", "match"),
    [
        ({"sizes": "2 3"}, "MS-R102", "impossible sizes"),
        ({"sizes": "2 3 -4"}, "MS-R102", "impossible sizes"),
        ({"sizes": "2 3 x"}, "MS-R101", "no sizes"),
        ({"sizes": "2 3 5"}, "MS-F120", "48 of 60 bytes"),
        ({"sizes": "99999 99999 99999"}, "MS-F120", "ends early"),
        ({"encoding": "gzip"}, "MS-F121", "corrupt"),
        ({"encoding": "hex"}, "MS-R105", "'hex'"),
        ({"type": "block"}, "MS-R104", "'block'"),
        ({"endian": "middle"}, "MS-R101", "byte order"),
        ({"kinds": "RGB-color domain domain"}, "MS-R104", "RGB-color"),
        ({"space": "left-posterior-superior-time"}, "MS-R103", "four-dimensional"),
        ({"space directions": "(0.5,0,0) (0,0.6,0)"}, "MS-R112", "three vectors"),
        ({"space directions": "(0.5,0,0) (0,0.6,0) (nan,0,3)"}, "MS-R112", "not finite"),
        ({"space directions": "(0.5,0,0) (0,0.6,0) (0,0,0)"}, "MS-R112", "zero"),
        ({"space directions": "(0.5,0,0) (0,0.6,0) (1,0,0)"}, "MS-R112", "parallel"),
        ({"space origin": "(1,2,nan)"}, "MS-R112", "origin"),
        ({"space units": '"furlong" "furlong" "furlong"'}, "MS-R112", "furlong"),
        ({"byte skip": "x"}, "MS-R101", "byte skip"),
        ({"data file": "x%03d.raw 1 4 1"}, "MS-R105", "pattern"),
    ],
)
def test_broken_headers(nrrd, fields, code, match):
    with pytest.raises(InputError, match=match) as caught:
        read_nrrd(nrrd(**fields))
    assert caught.value.code == code
    assert "x.nrrd" in str(caught.value)
    assert caught.value.mend


def test_2d_and_5d_are_refused(nrrd):
    with pytest.raises(InputError, match="2 axes") as caught:
        read_nrrd(nrrd(dimension="2", sizes="6 4", drop=("space", "space directions", "kinds", "space origin")))
    assert caught.value.code == "MS-R103"
    five = {"dimension": "5", "sizes": "2 2 2 1 3", "kinds": "list list domain domain domain"}
    with pytest.raises(InputError, match="5 axes") as caught:
        read_nrrd(nrrd(space_directions="none none (1,0,0) (0,1,0) (0,0,1)", **five))
    assert caught.value.code == "MS-R103"


def test_nan_is_kept_for_the_policy(nrrd):
    values = VALUES.astype("<f4")
    values[1, 1, 1] = np.nan
    with pytest.raises(InputError, match="1 of 24") as caught:
        read_nrrd(nrrd(values, type="float"))
    assert caught.value.code == "MS-F112"
    assert read_nrrd(nrrd(values, type="float"), ReadOptions(nonfinite="fill:3")).array[1, 1, 1] == 3


@pytest.mark.parametrize("name", ["../secret.raw", "/etc/hostname", "sub/../../secret.raw"])
def test_data_outside_the_folder_are_refused(nrrd, meta, tmp_path, name):
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "sub").mkdir()
    (tmp_path / "secret.raw").write_bytes(VALUES.tobytes("F"))
    for path in (
        nrrd(data=b"", name="inner/x.nhdr", data_file=name),
        nrrd(data=b"", name="inner/y.nhdr", data_file=f"LIST\n{name}"),
        meta(data=b"", name="inner/x.mhd", file=name),
        meta(data=f"{name}\n".encode(), name="inner/y.mhd", file="LIST"),
    ):
        with pytest.raises(InputError, match="another place") as caught:
            read_nrrd(path)
        assert caught.value.code == "MS-R106"


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_a_link_out_of_the_folder_is_refused(nrrd, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "x.raw").write_bytes(VALUES.tobytes("F"))
    Path(tmp_path / "in" / "x.raw").symlink_to(tmp_path / "x.raw")
    with pytest.raises(InputError, match="another place"):
        read_nrrd(nrrd(data=b"", name="in/x.nhdr", data_file="x.raw"))


def test_absent_data_are_named(nrrd):
    with pytest.raises(InputError, match=r"gone\.raw: no such file") as caught:
        read_nrrd(nrrd(data=b"", name="x.nhdr", data_file="gone.raw"))
    assert caught.value.code == "MS-F101"


# Segmentations -------------------------------------------------------------------------------------------------------

LIVER = (
    "TerminologyEntry:Segmentation category and type~SCT^123037004^Anatomical Structure~SCT^10200004^Liver~^^"
    "~Anatomic codes~^^~^^|"
)


def segment(number, name, value=1, layer=0, **more):
    keys = {"ID": f"S_{number}", "Name": name, "LabelValue": value, "Layer": layer, "Color": "1 0.5 0", **more}
    return {f"Segment{number}_{key}": str(x) for key, x in keys.items()}


def layered(nrrd, stack, pairs, name="x.seg.nrrd"):
    directions = f"none {HEAD['space directions']}"
    sizes = " ".join(map(str, stack.shape))
    kinds = "list domain domain domain"
    return nrrd(stack, name=name, dimension="4", sizes=sizes, space_directions=directions, kinds=kinds,
                type="uchar", pairs=pairs)  # fmt: skip


def test_one_layer_keeps_values_names_colours_and_codes(nrrd):
    values = (VALUES % 3).astype("u1")
    pairs = segment(0, "liver", 1, Tags=LIVER) | segment(1, "liver", 2)
    volume = read_nrrd(nrrd(values, name="x.seg.nrrd", type="uchar", pairs=pairs))
    np.testing.assert_array_equal(volume.array, values)
    np.testing.assert_allclose(volume.affine, RAS)
    first, second = volume.labels
    assert (first.value, first.name, first.colour) == (1, "liver", (255, 128, 0))
    assert (first.category, first.type) == (
        Code("SCT", "123037004", "Anatomical Structure"),
        Code("SCT", "10200004", "Liver"),
    )
    assert first.modifier is None
    assert second.name == "liver (2)"


def test_layers_without_overlap_become_one_map(nrrd):
    stack = np.zeros((2, 2, 3, 4), "u1")
    stack[0, 0] = 1
    stack[1, 1, :2] = 1
    volume = read_nrrd(layered(nrrd, stack, segment(0, "a", 1, 0) | segment(1, "b", 1, 1)))
    np.testing.assert_array_equal(volume.array, stack[0] + 2 * stack[1])
    assert [(x.value, x.name) for x in volume.labels] == [(1, "a"), (2, "b")]
    assert codes(volume) == ["MS-R220"]


def test_nested_layers_keep_the_inner_on_top(nrrd):
    stack = np.zeros((3, 2, 3, 4), "u1")
    stack[0, :, :2] = 5  # whole
    stack[1, :, :1] = 6  # core, in whole
    stack[2, 0, 0, 0] = 7  # enhancing, in core
    pairs = segment(0, "whole", 5, 0) | segment(1, "core", 6, 1) | segment(2, "enhancing", 7, 2)
    volume = read_nrrd(layered(nrrd, stack, pairs))
    np.testing.assert_array_equal(volume.array, stack.max(axis=0))
    assert {x.name: x.region for x in volume.labels} == {"whole": (5, 6, 7), "core": (6, 7), "enhancing": ()}
    assert codes(volume) == ["MS-R222"]


def test_partial_overlap_is_refused(nrrd):
    stack = np.zeros((2, 2, 3, 4), "u1")
    stack[0, :, :2] = 1
    stack[1, :, 1:] = 2
    with pytest.raises(InputError, match="'a' and 'b' overlap in 8 voxels") as caught:
        read_nrrd(path := layered(nrrd, stack, segment(0, "a", 1, 0) | segment(1, "b", 2, 1)))
    assert caught.value.code == "MS-R121"
    assert "--segments a" in caught.value.mend
    for n, name in enumerate("ab"):  # as the message says
        volume = read_nrrd(path, ReadOptions(segments=name))
        np.testing.assert_array_equal(volume.array, stack[n])
        assert [x.name for x in volume.labels] == [name]
    with pytest.raises(InputError, match="no segment c in it; it holds 1 'a', 2 'b'") as caught:
        read_nrrd(path, ReadOptions(segments="c"))
    assert caught.value.code == "MS-R122"


def test_segments_of_one_layer_are_picked_by_name_or_value(nrrd):
    values = (VALUES % 3).astype("u1")
    pairs = segment(0, "a", 1) | segment(1, "b", 2)
    path = nrrd(values, name="x.seg.nrrd", type="uchar", pairs=pairs)
    np.testing.assert_array_equal(read_nrrd(path, ReadOptions(segments="2")).array, np.where(values == 2, 2, 0))
    np.testing.assert_array_equal(read_nrrd(path, ReadOptions(segments="b, a")).array, values)


@given(st.integers(0, 2**31))
def test_disjoint_or_nested_segments_are_told_from_others_by_brute_force(tmp_path_factory, seed):
    from medseg.readers.segments import flatten

    rng = np.random.default_rng(seed)
    stack = np.stack([(rng.random((2, 2, 3)) < rng.choice([0.1, 0.9])) * (n + 1) for n in range(3)]).astype("u1")
    pairs = segment(0, "a", 1, 0) | segment(1, "b", 2, 1) | segment(2, "c", 3, 2)
    masks = [frozenset(np.flatnonzero(layer)) for layer in stack]
    bad = any(a & b and not (a <= b or b <= a) for n, a in enumerate(masks) for b in masks[n + 1 :])
    if bad:
        with pytest.raises(InputError, match="overlap"):
            flatten(stack, pairs, Path("x"))
        return
    out, table, _ = flatten(stack, pairs, Path("x"))
    for mask, label in zip(masks, table, strict=True):
        assert frozenset(np.flatnonzero(np.isin(out, label.region or (label.value,)))) == mask


def test_values_without_a_segment_are_kept(nrrd):
    values = (VALUES % 3).astype("u1")
    volume = read_nrrd(nrrd(values, name="x.seg.nrrd", type="uchar", pairs=segment(0, "a", 1)))
    np.testing.assert_array_equal(volume.array, values)
    assert [x.name for x in volume.labels] == ["a", "label 2"]
    assert codes(volume) == ["MS-R221"]


def test_a_segmentation_of_floats_is_refused(nrrd):
    with pytest.raises(InputError, match="no labels") as caught:
        read_nrrd(nrrd(VALUES.astype("<f4") / 2, name="x.seg.nrrd", type="float", pairs=segment(0, "a", 1)))
    assert caught.value.code == "MS-R120"


def test_old_segmentations_have_a_layer_a_segment(nrrd):
    stack = np.zeros((2, 2, 3, 4), "u1")
    stack[0, 0] = stack[1, 1] = 1
    pairs = {"Segment0_ID": "a", "Segment0_Name": "a", "Segment1_ID": "b", "Segment1_Name": "b"}
    volume = read_nrrd(layered(nrrd, stack, pairs))
    np.testing.assert_array_equal(volume.array, stack[0] + 2 * stack[1])
    assert replace(volume.labels.labels[1], colour=(0, 0, 0)).name == "b"
