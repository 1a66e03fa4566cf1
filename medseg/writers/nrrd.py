"""NRRD, the format of 3D Slicer: its header, and values streamed through gzip and read back before the file appears.

Layout of the axes, as Slicer writes and reads them: (I, J, K) alone; the layers of a segmentation before them
(`list domain domain domain`, fastest in the file); the volumes of a sequence after them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from isal import igzip, isal_zlib

from medseg.geometry import Grid, flip_ras_lps
from medseg.writers.atomic import atomic_write

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

#: Control characters, lone surrogates and what is no character at all.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_CHUNK = 1 << 20
#: As for NIfTI: level 3 costs ten times the time.
_LEVEL = 2
_TYPES = {
    "u1": "unsigned char",
    "i1": "signed char",
    "u2": "unsigned short",
    "i2": "short",
    "u4": "unsigned int",
    "i4": "int",
    "f4": "float",
}


def nrrd_head(
    dtype: np.dtype,
    shape: Sequence[int],
    affine: np.ndarray,
    pairs: Mapping[str, str],
    *,
    layers: int = 1,
    volumes: int | None = None,
    index_name: str = "",
) -> bytes:
    """The header of a gzipped NRRD file, its closing empty line included.

    Args:
        dtype: of the values, little-endian.
        shape: (I, J, K).
        affine: (4, 4) voxel index -> RAS mm; stored as LPS with every digit of float64.
        pairs: the key:=value lines, in order; line ends and backslashes in them are escaped as NRRD demands.
        layers: of a segmentation; above 1 a `list` axis stands before the spatial ones.
        volumes: of a sequence; when not None a `list` axis stands after the spatial ones.
        index_name: what numbers the volumes.

    Raises:
        ValueError: an affine without volume, or a type that is none of 8 to 32 bit integers and float32.
    """
    i, j, k = shape
    lps = flip_ras_lps(Grid((i, j, k), affine).affine) + 0.0  # -0 would be written as such
    sizes, kinds, directions = [i, j, k], ["domain"] * 3, [_vector(lps[:3, axis]) for axis in range(3)]
    labels = []
    if layers > 1:
        sizes, kinds, directions = [layers, *sizes], ["list", *kinds], ["none", *directions]
    if volumes is not None:
        sizes, kinds, directions = [*sizes, volumes], [*kinds, "list"], [*directions, "none"]
        labels = [f'labels: {" ".join([chr(34) * 2] * (len(sizes) - 1))} "{index_name}"']
    lines = [
        "NRRD0004",
        "# Complete NRRD file format specification at:",
        "# http://teem.sourceforge.net/nrrd/format.html",
        f"type: {_type_name(dtype)}",
        f"dimension: {len(sizes)}",
        "space: left-posterior-superior",
        f"sizes: {' '.join(str(n) for n in sizes)}",
        f"space directions: {' '.join(directions)}",
        f"kinds: {' '.join(kinds)}",
        *labels,
        "endian: little",
        "encoding: gzip",
        f"space origin: {_vector(lps[:3, 3])}",
        *(f"{key}:={_escaped(value)}" for key, value in pairs.items()),
    ]
    return ("\n".join(lines) + "\n\n").encode("utf-8")


def write_packed(path: str | Path, head: bytes, blocks: Iterable[np.ndarray]) -> None:
    """Write a header and gzipped values, atomically; one content gives one file, byte for byte.

    Args:
        path: the target.
        head: from `nrrd_head`.
        blocks: the values in the file's order, each C-contiguous; asked for once, one after the other.

    Raises:
        OutputError: MS-O101 to MS-O106, see `atomic_write`.
    """
    written = [0, 0]  # bytes, checksum

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(head)
            # No name and no time in the gzip header: one array gives one file, byte for byte.
            with igzip.IGzipFile(filename="", fileobj=file, mode="wb", compresslevel=_LEVEL, mtime=0) as stream:
                for block in blocks:
                    flat = block.reshape(-1).view(np.uint8).data
                    written[:] = written[0] + len(flat), isal_zlib.crc32(flat, written[1])
                    stream.writelines(flat[start : start + _CHUNK] for start in range(0, len(flat), _CHUNK))

    def check(temporary: Path) -> None:
        read = [0, 0]
        with temporary.open("rb") as file:
            same = file.read(len(head)) == head
            with igzip.IGzipFile(fileobj=file, mode="rb") as stream:
                while chunk := stream.read(_CHUNK):
                    read[:] = read[0] + len(chunk), isal_zlib.crc32(chunk, read[1])
        if not same or read != written:
            msg = "the bytes differ"
            raise ValueError(msg)

    atomic_write(path, write, check=check)


def one_line(text: str) -> str:
    """`text` stripped, a space for each character that no XML file or line of text may hold."""
    return _UNFIT.sub(" ", text).strip()


def _vector(numbers: np.ndarray) -> str:
    return f"({','.join(repr(float(x)).removesuffix('.0') for x in numbers)})"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n")


def _type_name(dtype: np.dtype) -> str:
    name = _TYPES.get(f"{dtype.kind}{dtype.itemsize}")
    if name is None:
        msg = f"written are integers of 8 to 32 bits and float32, got {dtype}"
        raise ValueError(msg)
    return name
