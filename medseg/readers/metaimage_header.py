"""The header of a MetaImage file (.mha, .mhd), as the same plain values as an NRRD header.

World coordinates are LPS mm, as ITK writes and reads them; `AnatomicalOrientation` repeats what TransformMatrix says
and is ignored, as in ITK.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import GeometryError, InputError
from medseg.readers.nrrd_header import NrrdHeader

if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import BufferedIOBase
    from pathlib import Path

_MAX_HEADER = 1 << 16
_DTYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
_TRUE = ("true", "1", "t", "yes")


def read_meta_header(stream: BufferedIOBase, path: Path) -> NrrdHeader:
    """Parse the header at the start of `stream`, which is left at the first byte after it.

    Raises:
        InputError: MS-R101 broken header, MS-R102 impossible sizes, MS-R103 not a 3D image or a stack of such,
            MS-R104 values that are no single numbers, MS-R105 a layout that is not read.
        GeometryError: MS-R112 broken directions or origin.
    """
    fields = _fields(stream, path)
    sizes = _sizes(fields, path)
    channels = _channels(fields, path)
    dtype = _dtype(fields, path)
    data_files, byte_skip = _data(fields, stream, path)
    spacings = _numbers(fields, ("elementspacing", "elementsize"), len(sizes))
    directions = _directions(fields, len(sizes), spacings, path)
    origin = _numbers(fields, ("offset", "origin", "position"), len(sizes))
    if origin is not None and not np.isfinite(origin).all():
        raise _geometry(path, "its offset is not finite")
    i, j, k = spacings[:3] if spacings is not None else (float("nan"),) * 3
    lead = (channels,) if channels > 1 else ()
    first = len(lead)
    return NrrdHeader(
        sizes=lead + sizes,
        dtype=dtype,
        encoding="zlib" if fields.get("compresseddata", "").lower() in _TRUE else "raw",
        spatial=(first, first + 1, first + 2),
        directions=directions,
        spacings=(float(i), float(j), float(k)),
        origin=None if origin is None else origin[:3],
        space="LPS" if directions is not None else "",
        unit_mm=1.0,
        data_files=data_files,
        byte_skip=byte_skip,
    )


def _fields(stream: BufferedIOBase, path: Path) -> dict[str, str]:
    fields: dict[str, str] = {}
    total = 0
    while raw := stream.readline(_MAX_HEADER):
        total += len(raw)
        key, equals, value = raw.decode("utf-8", "replace").partition("=")
        if not equals or total > _MAX_HEADER:
            raise _broken(path, "its header has a line that is no field, or no ElementDataFile")
        fields[key.strip().lower()] = value.strip()
        if key.strip().lower() == "elementdatafile":
            return fields
    raise _broken(path, "its header has no ElementDataFile")


def _sizes(fields: Mapping[str, str], path: Path) -> tuple[int, ...]:
    try:
        ndims = int(fields["ndims"])
        sizes = tuple(int(n) for n in fields["dimsize"].split())
    except (KeyError, ValueError):
        raise _broken(path, "its header states no NDims or no DimSize") from None
    if len(sizes) != ndims or any(n < 1 for n in sizes):
        raise InputError(
            "MS-R102",
            f"impossible sizes {fields['dimsize']!r} for NDims {ndims}",
            file=path,
            mend="the header is damaged: copy the file again, or write it again from its source",
        )
    if ndims not in (3, 4):
        raise InputError(
            "MS-R103",
            f"it has {ndims} axes; an image has 3, or 4 with time",
            file=path,
            mend="stack the slices into one 3D file" if ndims < 3 else "write one file for each index of the others",
        )
    return sizes


def _channels(fields: Mapping[str, str], path: Path) -> int:
    try:
        channels = int(fields.get("elementnumberofchannels", "1"))
    except ValueError:
        raise _broken(path, "its ElementNumberOfChannels is not a number") from None
    if channels < 1:
        raise _broken(path, f"its ElementNumberOfChannels is {channels}")
    colours = channels in (3, 4) and fields.get("elementtype", "").upper() == "MET_UCHAR"
    if colours or (channels > 1 and fields["ndims"] == "4"):
        raise InputError(
            "MS-R104",
            f"its voxels hold {channels} {'colours' if colours else 'values at each time point'}, not one number each",
            file=path,
            mend="write one file for each of them",
        )
    return channels


def _dtype(fields: Mapping[str, str], path: Path) -> np.dtype:
    name = fields.get("elementtype", "").upper()
    if name not in _DTYPES:
        raise InputError(
            "MS-R104", f"its values are of type {name!r}", file=path, mend="write it as integers, float or double"
        )
    big = fields.get("binarydatabyteordermsb", fields.get("elementbyteordermsb", "false")).lower() in _TRUE
    return np.dtype(_DTYPES[name]).newbyteorder(">" if big else "<")


def _data(fields: Mapping[str, str], stream: BufferedIOBase, path: Path) -> tuple[tuple[str, ...], int]:
    """(names of the data files, bytes to skip in them)."""
    if fields.get("binarydata", "true").lower() not in _TRUE:
        raise InputError("MS-R105", "its values are written as text", file=path, mend="save it as a binary .mha")
    try:
        skip = int(fields.get("headersize", "0"))
    except ValueError:
        raise _broken(path, "its HeaderSize is not a number") from None
    if skip < -1:
        raise _broken(path, f"its HeaderSize is {skip}")
    name = fields["elementdatafile"]
    word = name.split(" ")[0]
    if "%" in name:
        raise InputError("MS-R105", f"its data files are a pattern ({name})", file=path, mend="save it as one .mha")
    if word.upper() == "LIST":
        names = stream.read(_MAX_HEADER).decode("utf-8", "replace").split("\n")
        return tuple(n.strip() for n in names if n.strip()), skip
    if word.upper() == "LOCAL":
        return (), max(skip, 0)
    if not name:
        raise _broken(path, "its ElementDataFile is empty")
    return (name,), skip


def _directions(fields: Mapping[str, str], ndims: int, spacings: np.ndarray | None, path: Path) -> np.ndarray | None:
    """(3, 3) columns: one step along each axis in LPS mm; TransformMatrix lists the axes one after the other."""
    cosines = _numbers(fields, ("transformmatrix", "rotation", "orientation"), ndims * ndims)
    if cosines is None:
        return None
    if spacings is None or not np.isfinite(spacings).all() or (spacings[:3] <= 0).any():
        raise _geometry(path, "it has no positive ElementSpacing")
    columns = cosines.reshape(ndims, ndims).T[:3, :3]
    if not np.isfinite(columns).all() or abs(np.linalg.det(columns)) < 1e-6:
        raise _geometry(path, "its TransformMatrix is not finite, zero, or its axes are parallel")
    return columns * spacings[:3]


def _numbers(fields: Mapping[str, str], keys: tuple[str, ...], count: int) -> np.ndarray | None:
    """The first of `keys` that is there as `count` numbers; NaN where one is none."""
    for key in keys:
        if key in fields:
            words = fields[key].split()
            try:
                return (
                    np.array([float(w) for w in words], np.float64) if len(words) == count else np.full(count, np.nan)
                )
            except ValueError:
                return np.full(count, np.nan)
    return None


def _geometry(path: Path, what: str) -> GeometryError:
    return GeometryError("MS-R112", what, file=path, mend="write the file again from its source")


def _broken(path: Path, what: str) -> InputError:
    return InputError("MS-R101", what, file=path, mend="copy the file again, or write it again from its source")
