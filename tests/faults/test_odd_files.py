"""Files that are odd but good: each is read, and every corner of it lies where it belongs within a thousandth of a mm.

The voxels say where they are: their value is ten times the height (RAS z, mm) at which they lie, so that a flip or a wrong
axis shows in the values too.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np

import medseg
from medseg.geometry import Grid, corner_distance_mm

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHAPE = (7, 8, 9)
PLAIN = np.array([[0.8, 0, 0, 12.0], [0, 0.9, 0, -34.0], [0, 0, 2.5, 56.0], [0, 0, 0, 1]])


def turned(*degrees: float, spacing=(0.8, 0.9, 2.5)) -> np.ndarray:
    """Turned about x, y and z in turn."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        a, b = [n for n in range(3) if n != axis]
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix * spacing, (12.0, -34.0, 56.0)
    return affine


def sheared(x_per_slice: float) -> np.ndarray:
    affine = PLAIN.copy()
    affine[0, 2] = x_per_slice
    return affine


def heights(affine: np.ndarray, shape=SHAPE) -> np.ndarray:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    return (10 * (index @ affine[2, :3] + affine[2, 3])).round().astype("<i2")


@dataclass(frozen=True)
class Odd:
    """A file, and the truth: affine in RAS mm and values."""

    path: Path
    affine: np.ndarray
    array: np.ndarray


def nifti(
    name="x.nii",
    affine=PLAIN,
    shape=SHAPE,
    array=None,
    version=1,
    endian="<",
    pack=None,
    change=None,
    truth=None,
    **fields,
) -> Callable[[Path], Odd]:
    array = heights(affine, shape) if array is None else array

    def make(folder: Path) -> Odd:
        header = (nib.Nifti1Header if version == 1 else nib.Nifti2Header)(endianness=endian)
        header.set_data_dtype(array.dtype)
        header.set_data_shape(array.shape)
        header.set_qform(affine, 1, strip_shears=True)
        header.set_sform(affine, 1)
        header.set_xyzt_units("mm")
        header["vox_offset"] = header.single_vox_offset
        header["scl_slope"], header["scl_inter"] = 1, 0
        for key, value in fields.items():
            header[key] = value
        raw = header.binaryblock + bytes(4) + array.astype(array.dtype.newbyteorder(endian)).tobytes("F")
        packed = name.endswith(".gz") if pack is None else pack
        raw = gzip.compress(raw, mtime=0) if packed else raw
        path = folder / name
        path.write_bytes(change(raw) if change else raw)
        return Odd(path, affine, array if truth is None else truth)

    return make


def pair(folder: Path) -> Odd:
    image = nib.Nifti1Pair(heights(PLAIN), PLAIN)
    nib.save(image, folder / "x.img")
    return Odd(folder / "x.hdr", PLAIN, heights(PLAIN))


def linked(folder: Path) -> Odd:
    odd = nifti("behind.nii")(folder)
    (folder / "x.nii").symlink_to(odd.path)
    return Odd(folder / "x.nii", odd.affine, odd.array)


def in_a_folder(folder: Path) -> Odd:
    (folder / "scan").mkdir()
    odd = nifti("x.nii.gz")(folder / "scan")
    (folder / "scan" / "notes.txt").write_text("beside it")
    return Odd(folder / "scan", odd.affine, odd.array)


LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def nrrd(affine=PLAIN, name="x.nrrd", space="left-posterior-superior", to=LPS, pack=bytes, beside=None, **fields):
    array = heights(affine)

    def make(folder: Path) -> Odd:
        own = to @ affine
        vectors = [f"({','.join(f'{x:.17g}' for x in own[:3, n])})" for n in range(4)]
        head = {
            "type": "short",
            "dimension": "3",
            "space": space,
            "sizes": " ".join(map(str, SHAPE)),
            "space directions": " ".join(vectors[:3]),
            "endian": "little",
            "encoding": "raw",
            "space origin": vectors[3],
            **({"data file": beside} if beside else {}),
            **{key.replace("_", " "): value for key, value in fields.items()},
        }
        raw = pack(array.astype(">i2" if head["endian"] == "big" else "<i2").tobytes("F"))
        text = "\n".join(["NRRD0004", *(f"{key}: {value}" for key, value in head.items())]).encode() + b"\n\n"
        if beside:
            (folder / beside).parent.mkdir(exist_ok=True)
            (folder / beside).write_bytes(raw)
        (folder / name).write_bytes(text if beside else text + raw)
        return Odd(folder / name, affine, array)

    return make


def meta(affine=PLAIN, name="x.mha", beside=None, packed=False, **fields):
    array = heights(affine)

    def make(folder: Path) -> Odd:
        own = LPS @ affine
        spacing = np.linalg.norm(own[:3, :3], axis=0)
        head = {
            "ObjectType": "Image",
            "NDims": "3",
            "BinaryData": "True",
            "BinaryDataByteOrderMSB": "False",
            "CompressedData": str(packed),
            "TransformMatrix": " ".join(f"{x:.17g}" for x in (own[:3, :3] / spacing).T.ravel()),
            "Offset": " ".join(f"{x:.17g}" for x in own[:3, 3]),
            "ElementSpacing": " ".join(f"{x:.17g}" for x in spacing),
            "DimSize": " ".join(map(str, SHAPE)),
            "ElementType": "MET_SHORT",
            **fields,
            "ElementDataFile": beside or "LOCAL",
        }
        raw = array.astype(">i2" if head["BinaryDataByteOrderMSB"] == "True" else "<i2").tobytes("F")
        raw = zlib.compress(raw) if packed else raw
        text = "".join(f"{key} = {value}\n" for key, value in head.items()).encode()
        if beside:
            (folder / beside).write_bytes(raw)
        (folder / name).write_bytes(text if beside else text + raw)
        return Odd(folder / name, affine, array)

    return make


OBLIQUE = turned(17, -23, 41)
MIRRORED = OBLIQUE @ np.diag([-1.0, 1, 1, 1])
SWAPPED = PLAIN[:, [2, 0, 1, 3]]

ODD: dict[str, Callable[[Path], Odd]] = {
    "oblique": nifti(affine=OBLIQUE),
    "left-handed": nifti(affine=MIRRORED),
    "axes in another order": nifti(affine=SWAPPED),
    "NIfTI-2": nifti(affine=OBLIQUE, version=2),
    "NIfTI-2 big-endian, packed": nifti("x.nii.gz", affine=OBLIQUE, version=2, endian=">"),
    "big-endian": nifti(affine=OBLIQUE, endian=">"),
    "header and image apart": pair,
    "sheared a little": nifti(affine=sheared(2e-4), qform_code=0),
    "sheared as a tilted gantry": nifti(affine=sheared(0.9), qform_code=0),
    "qform alone": nifti(affine=OBLIQUE, sform_code=0),
    "sform alone": nifti(affine=OBLIQUE, qform_code=0),
    "pixdim zero": nifti(affine=OBLIQUE, pixdim=[1, 0, 0, 0, 1, 1, 1, 1], qform_code=0),
    "pixdim negative": nifti(pixdim=[1, -0.8, 0.9, 2.5, 1, 1, 1, 1], qform_code=0),
    "micrometres": nifti(
        affine=np.diag([1e3, 1e3, 1e3, 1.0]) @ PLAIN, array=heights(PLAIN), xyzt_units=3, qform_code=0
    ),
    "an accented name": nifti("Größe_头颅 .nii.gz"),
    "a name with spaces and a newline": nifti("a b\nc.nii"),
    "a name of 200 letters": nifti("x" * 200 + ".nii.gz"),
    "raw under a packed name": nifti("x.nii.gz", pack=False),
    "packed under a raw name": nifti("x.nii", pack=True),
    "gzip in two members": nifti(
        "x.nii.gz", pack=False, change=lambda raw: gzip.compress(raw[:500]) + gzip.compress(raw[500:])
    ),
    "bytes behind the end": nifti(change=lambda raw: raw + b"more"),
    "slope 0 is no scaling": nifti(scl_slope=0, scl_inter=500),
    "scaled": nifti(scl_slope=2, scl_inter=-1024, truth=heights(PLAIN) * 2.0 - 1024),
    "one slice": nifti(shape=(7, 8, 1)),
    "a fourth axis of one": nifti(dim=[4, *SHAPE, 1, 1, 1, 1]),
    "64-bit integers": nifti(array=heights(PLAIN).astype("<i8")),
    "64-bit reals": nifti(array=heights(PLAIN).astype("<f8")),
    "behind a link": linked,
    "alone in a folder": in_a_folder,
    "NRRD oblique": nrrd(OBLIQUE),
    "NRRD in RAS": nrrd(OBLIQUE, space="right-anterior-superior", to=np.eye(4)),
    "NRRD in LAS": nrrd(OBLIQUE, space="left-anterior-superior", to=np.diag([-1.0, 1, 1, 1])),
    "NRRD packed, big-endian": nrrd(MIRRORED, pack=gzip.compress, encoding="gzip", endian="big"),
    "NRRD in micrometres": nrrd(PLAIN, to=LPS @ np.diag([1e3, 1e3, 1e3, 1.0]), space_units='"um" "um" "um"'),
    "NRRD with its voxels below": nrrd(SWAPPED, name="x.nhdr", beside="data/x.raw"),
    "MetaImage oblique, packed": meta(OBLIQUE, packed=True),
    "MetaImage left-handed, big-endian": meta(MIRRORED, BinaryDataByteOrderMSB="True"),
    "MetaImage with its voxels beside": meta(SWAPPED, name="x.mhd", beside="x.raw"),
}


def test_each_is_placed_within_a_thousandth_of_a_millimetre(tmp_path, count):
    wrong, worst = {}, 0.0
    for n, (kind, make) in enumerate(ODD.items()):
        (tmp_path / str(n)).mkdir()
        odd = make(tmp_path / str(n))
        volume = medseg.read(odd.path)
        affine = PLAIN if kind == "micrometres" else odd.affine
        distance = corner_distance_mm(volume.grid, Grid(volume.grid.shape, affine))
        worst = max(worst, distance)
        if distance > 1e-3 or not np.array_equal(volume.array, odd.array):
            wrong[kind] = (distance, volume.array.shape)
    assert wrong == {}
    assert len(ODD) >= 25
    count("odd but good files", len(ODD), len(ODD), f"placed, the worst {worst:.1e} mm away")
