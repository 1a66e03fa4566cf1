"""Bad NIfTI, NRRD and MetaImage files of our own making: none is accepted, each refusal names file, finding, mend, code.

Each file is sound but for one thing. `test_the_files_are_sound_but_for_one_thing` proves that the makers make sound ones.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import medseg
from medseg.errors import InputError, MedsegError, MemoryLimitError

AFFINE = np.array([[-0.8, 0.0, 0.0, 12.0], [0.0, 0.9, 0.0, -34.0], [0.0, 0.0, 2.5, 56.0], [0.0, 0.0, 0.0, 1.0]])
ARRAY = np.random.default_rng(0).integers(-1000, 1000, (8, 9, 10)).astype("<i2")
DATA = ARRAY.tobytes("F")
NRRD = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "8 9 10",
    "space directions": "(0.8,0,0) (0,0.9,0) (0,0,2.5)",
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
    "ElementSpacing": "0.8 0.9 2.5",
    "DimSize": "8 9 10",
    "ElementType": "MET_SHORT",
}


def nifti_bytes(array=ARRAY, affine=AFFINE, version=1, **fields) -> bytes:
    header = (nib.Nifti1Header if version == 1 else nib.Nifti2Header)(endianness="<")
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header.set_qform(affine, 1)
    header.set_sform(affine, 1)
    header.set_xyzt_units("mm")
    header["vox_offset"] = header.single_vox_offset
    header["scl_slope"], header["scl_inter"] = 1, 0
    for key, value in fields.items():
        header[key] = value
    return header.binaryblock + b"\0" * 4 + array.tobytes("F")


def nii(**fields):
    return "x.nii", nifti_bytes(**fields)


def gz(change=lambda packed: packed, **fields):
    return "x.nii.gz", change(gzip.compress(nifti_bytes(**fields), 6, mtime=0))


def spoiled(value, at=(3, 4, 5)):
    array = ARRAY.astype("<f4")
    array[at] = value
    return array


def flip(packed: bytes, at: int) -> bytes:
    changed = bytearray(packed)
    changed[at] ^= 1
    return bytes(changed)


def nrrd(data=DATA, drop=(), name="x.nrrd", **fields):
    head = {k: v for k, v in {**NRRD, **{k.replace("_", " "): v for k, v in fields.items()}}.items() if k not in drop}
    return name, "\n".join(["NRRD0004", *(f"{k}: {v}" for k, v in head.items())]).encode() + b"\n\n" + data


def mha(data=DATA, drop=(), name="x.mha", file="LOCAL", **fields):
    head = {k: v for k, v in {**META, **fields}.items() if k not in drop}
    return name, "".join(f"{k} = {v}\n" for k, v in [*head.items(), ("ElementDataFile", file)]).encode() + data


SHAPE = [3, 8, 9, 10, 1, 1, 1, 1]
NAN_ROW = {"srow_x": [np.nan, 0, 0, 0]}
ZERO = {f"srow_{axis}": [0, 0, 0, 0] for axis in "xyz"}
FLAT = {"srow_x": [1, 1, 0, 0], "srow_y": [1, 1, 0, 0]}
BOTH_UNKNOWN = {"qform_code": 0, "sform_code": 0}
OUTSIDE = Path(__file__).resolve()

BAD = {
    "nothing": lambda: ("x.nii.gz", b""),
    "one byte": lambda: ("x.nii", b"\x5c"),
    "gzip of nothing": lambda: ("x.nii.gz", gzip.compress(b"")),
    "header alone": lambda: ("x.nii", nifti_bytes()[:352]),
    "half a header": lambda: ("x.nii", nifti_bytes()[:200]),
    "one byte short": lambda: ("x.nii", nifti_bytes()[:-1]),
    "half": lambda: ("x.nii", nifti_bytes()[:1000]),
    "gzip cut in half": lambda: gz(lambda p: p[: len(p) // 2]),
    "gzip without its last byte": lambda: gz(lambda p: p[:-1]),
    "gzip without checksum and length": lambda: gz(lambda p: p[:-8]),
    "gzip checksum flipped": lambda: gz(lambda p: flip(p, -8)),
    "gzip length flipped": lambda: gz(lambda p: flip(p, -1)),
    "gzip bit flipped": lambda: gz(lambda p: flip(p, len(p) // 2)),
    "gzip head flipped": lambda: gz(lambda p: flip(p, 0)),
    "gzip with a tail": lambda: gz(lambda p: p + b"tail"),
    "larger than its data": lambda: nii(dim=[3, 8, 9, 11, 1, 1, 1, 1]),
    "32767 cubed": lambda: nii(dim=[3, 32767, 32767, 32767, 1, 1, 1, 1]),
    "32767 cubed, packed": lambda: gz(dim=[3, 32767, 32767, 32767, 1, 1, 1, 1]),
    "negative size": lambda: nii(dim=[3, -8, 9, 10, 1, 1, 1, 1]),
    "size zero": lambda: nii(dim=[3, 8, 0, 10, 1, 1, 1, 1]),
    "no dimension": lambda: nii(dim=[0, 8, 9, 10, 1, 1, 1, 1]),
    "nine dimensions": lambda: nii(dim=[9, 8, 9, 10, 1, 1, 1, 1]),
    "two dimensions": lambda: nii(dim=[2, 72, 10, 1, 1, 1, 1, 1]),
    "five dimensions": lambda: nii(dim=[5, 2, 4, 9, 5, 2, 1, 1]),
    "colours": lambda: nii(datatype=128, bitpix=24),
    "complex numbers": lambda: nii(datatype=32, bitpix=64),
    "single bits": lambda: nii(datatype=1, bitpix=1),
    "unknown kind of number": lambda: nii(datatype=77),
    "voxels begin inside the header": lambda: nii(vox_offset=12),
    "voxels begin nowhere": lambda: nii(vox_offset=np.nan),
    "voxels begin behind the end": lambda: nii(vox_offset=100_000),
    "scaled by infinity": lambda: nii(scl_slope=np.inf),
    "shifted by NaN": lambda: nii(scl_inter=np.nan),
    "scaled beyond float32": lambda: nii(scl_slope=3e38),
    "a voxel NaN": lambda: nii(array=spoiled(np.nan)),
    "a voxel infinite": lambda: gz(array=spoiled(-np.inf)),
    "all voxels NaN": lambda: nii(array=np.full(ARRAY.shape, np.nan, "<f4")),
    "place NaN": lambda: nii(**NAN_ROW),
    "place all zero": lambda: nii(**ZERO),
    "axes parallel": lambda: nii(**FLAT),
    "no place": lambda: nii(**BOTH_UNKNOWN),
    "pixdim NaN and no sform": lambda: nii(sform_code=0, pixdim=[1, np.nan, 1, 1, 1, 1, 1, 1]),
    "pixdim zero and no sform": lambda: nii(sform_code=0, pixdim=[1, 0.8, 0, 2.5, 1, 1, 1, 1]),
    "NIfTI-2 cut": lambda: ("x.nii", nifti_bytes(version=2)[:600]),
    "NIfTI-2 negative size": lambda: nii(version=2, dim=[3, -8, 9, 10, 1, 1, 1, 1]),
    "Git LFS pointer": lambda: ("x.nii.gz", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
    "web page": lambda: ("x.nii.gz", b"<!DOCTYPE html><html><body>please log in</body></html>"),
    "picture": lambda: ("x.nii", b"\x89PNG\r\n\x1a\n" + bytes(400)),
    "archive": lambda: ("x.nii.gz", b"PK\x03\x04" + bytes(400)),
    "random bytes": lambda: ("x.nii", np.random.default_rng(1).bytes(4000)),
    "text": lambda: ("x.nii", b"patient a, scan 3\n" * 40),
    "pair without its image": lambda: ("x.hdr", nifti_bytes(magic=b"ni1", vox_offset=0)[:348]),
    "NRRD cut": lambda: nrrd(DATA[:-2]),
    "NRRD two sizes": lambda: nrrd(sizes="8 9"),
    "NRRD negative size": lambda: nrrd(sizes="8 9 -10"),
    "NRRD size no number": lambda: nrrd(sizes="8 9 ten"),
    "NRRD huge": lambda: nrrd(sizes="99999 99999 99999"),
    "NRRD not packed": lambda: nrrd(encoding="gzip"),
    "NRRD packed and cut": lambda: nrrd(gzip.compress(DATA)[:-9], encoding="gzip"),
    "NRRD encoding unknown": lambda: nrrd(encoding="rot13"),
    "NRRD numbers unknown": lambda: nrrd(type="block"),
    "NRRD colours": lambda: nrrd(sizes="3 8 30", kinds="RGB-color domain domain"),
    "NRRD without space": lambda: nrrd(drop=("space", "space directions", "space origin")),
    "NRRD directions NaN": lambda: nrrd(space_directions="(0.8,0,0) (0,nan,0) (0,0,2.5)"),
    "NRRD directions zero": lambda: nrrd(space_directions="(0.8,0,0) (0,0.9,0) (0,0,0)"),
    "NRRD directions parallel": lambda: nrrd(space_directions="(0.8,0,0) (0,0.9,0) (1,0,0)"),
    "NRRD origin NaN": lambda: nrrd(space_origin="(1,2,nan)"),
    "NRRD unit unknown": lambda: nrrd(space_units='"furlong" "furlong" "furlong"'),
    "NRRD a line that is none": lambda: nrrd(drop=("endian",), **{"no\nfield here": "x"}),
    "NRRD data elsewhere": lambda: nrrd(b"", name="x.nhdr", data_file=str(OUTSIDE)),
    "NRRD data above": lambda: nrrd(b"", name="x.nhdr", data_file="../../secret.raw"),
    "NRRD data absent": lambda: nrrd(b"", name="x.nhdr", data_file="absent.raw"),
    "NRRD data by a pattern": lambda: nrrd(b"", name="x.nhdr", data_file="x%03d.raw 1 4 1"),
    "MetaImage cut": lambda: mha(DATA[:-2]),
    "MetaImage two dimensions": lambda: mha(NDims="2", DimSize="72 10"),
    "MetaImage size zero": lambda: mha(DimSize="8 9 0"),
    "MetaImage huge": lambda: mha(DimSize="30000 30000 30000"),
    "MetaImage not packed": lambda: mha(CompressedData="True"),
    "MetaImage packed and cut": lambda: mha(zlib.compress(DATA)[:-3], CompressedData="True"),
    "MetaImage packed and flipped": lambda: mha(flip(zlib.compress(DATA), -1), CompressedData="True"),
    "MetaImage numbers unknown": lambda: mha(ElementType="MET_ASCII_CHAR"),
    "MetaImage as text": lambda: mha(BinaryData="False"),
    "MetaImage turned by NaN": lambda: mha(TransformMatrix="1 0 0 0 1 0 0 0 nan"),
    "MetaImage axes parallel": lambda: mha(TransformMatrix="1 0 0 1 0 0 0 0 1"),
    "MetaImage spacing zero": lambda: mha(ElementSpacing="0.8 0.9 0"),
    "MetaImage offset infinite": lambda: mha(Offset="1 1 inf"),
    "MetaImage without a turn": lambda: mha(drop=("TransformMatrix",)),
    "MetaImage data elsewhere": lambda: mha(b"", name="x.mhd", file=str(OUTSIDE)),
    "MetaImage data above": lambda: mha(b"", name="x.mhd", file="../secret.raw"),
    "MetaImage data absent": lambda: mha(b"", name="x.mhd", file="absent.raw"),
}
SOUND = {"NIfTI": nii, "NIfTI packed": gz, "NIfTI-2": lambda: nii(version=2), "NRRD": nrrd, "MetaImage": mha}


def put(folder: Path, make) -> Path:
    name, content = make()
    (folder / "scans").mkdir()
    (folder / "secret.raw").write_bytes(DATA)
    (folder / "scans" / name).write_bytes(content)
    return folder / "scans" / name


@pytest.mark.parametrize("kind", SOUND)
def test_the_files_are_sound_but_for_one_thing(kind, tmp_path):
    assert np.array_equal(medseg.read(put(tmp_path, SOUND[kind])).array, ARRAY)


def fault(error: MedsegError, path: Path) -> str:
    """What is missing in a refusal; '' when it says all that a user needs."""
    text = str(error)
    lacks = [
        "" if re.fullmatch(r"MS-[A-Z]\d{3}", error.code) else "a code",
        "" if error.file is not None and Path(error.file).name in (path.name, "absent.raw") else "the file",
        "" if Path(error.file or "?").name in text else "the file in the message",
        "" if len(error.what.split()) >= 3 else "the finding",
        "" if len(error.mend.split()) >= 3 and error.mend in text else "the mend",
    ]
    return ", ".join(filter(None, lacks))


def test_none_is_accepted_and_each_refusal_says_what_to_do(tmp_path, count):
    accepted, poor, codes = [], {}, set()
    for n, (kind, make) in enumerate(BAD.items()):
        (tmp_path / f"{n}").mkdir()
        path = put(tmp_path / f"{n}", make)
        try:
            medseg.read(path)
        except (InputError, MemoryLimitError) as error:
            codes.add(error.code)
            if lacks := fault(error, path):
                poor[kind] = f"{lacks}: {error}"
        else:
            accepted.append(kind)
    assert accepted == []
    assert poor == {}
    assert len(BAD) >= 60
    count("bad NIfTI, NRRD and MetaImage files", len(BAD), len(BAD), f"refused, named with mend; {len(codes)} codes")


BOMB = """
import json, resource, sys, time
import medseg, medseg.readers.open
from medseg.errors import MedsegError
before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
try:
    medseg.read(sys.argv[1])
    code = "accepted"
except MedsegError as error:
    code = error.code
seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
print(json.dumps({"code": code, "seconds": seconds, "cpu": cpu, "mb": (after.ru_maxrss - before.ru_maxrss) / 1024}))
"""


def head_of(dtype: str, shape: tuple[int, int, int]) -> bytes:
    header = nib.Nifti1Header(endianness="<")
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    header.set_sform(AFFINE, 1)
    header["vox_offset"] = 352
    return header.binaryblock


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="peak memory is measured as on POSIX")
def test_a_bomb_is_refused_in_a_second_and_200_mb(tmp_path, count):
    block = bytes(1 << 24)
    paths = []
    for name, head in (
        ("within", head_of("<i2", (1024, 1024, 1024))),  # 2 GiB of voxels, as many as any limit allows
        ("beyond", head_of("u1", (2048, 1024, 1025))),  # just beyond 2**31 voxels
        ("lying", nifti_bytes()[:348]),  # a small image, and 2 GiB behind it
    ):
        paths.append(tmp_path / f"{name}.nii.gz")
        with gzip.open(paths[-1], "wb", compresslevel=1) as file:
            file.write(head + bytes(4))
            for _ in range(129):
                file.write(block)
    said = []
    for path, code in zip(paths, ("MS-F123", "MS-F123", "MS-F122"), strict=True):
        command = [sys.executable, "-W", "ignore", "-c", BOMB, str(path)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        assert found["code"] == code, found
        assert 8e6 < path.stat().st_size < 10e6
        assert found["cpu"] < 1, found
        assert found["mb"] < 200, found
        said.append(
            f"{path.stat().st_size / 1e6:.1f} MB: {found['code']} in {found['seconds']:.2f} s and {found['mb']:.0f} MB"
        )
    count("bombs of 2 GiB", len(said), len(paths), "; ".join(said))
