"""The header of an NRRD file (.nrrd, .nhdr) as plain checked values: what its fields (nrrd_fields.py) mean."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import GeometryError, InputError
from medseg.readers.nrrd_fields import broken, read_fields

if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import BufferedIOBase
    from pathlib import Path

_TYPES = {
    "i1": "signed char|int8|int8_t",
    "u1": "uchar|unsigned char|uint8|uint8_t",
    "i2": "short|short int|signed short|signed short int|int16|int16_t",
    "u2": "ushort|unsigned short|unsigned short int|uint16|uint16_t",
    "i4": "int|signed int|int32|int32_t",
    "u4": "uint|unsigned int|uint32|uint32_t",
    "i8": "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t",
    "u8": "ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t",
    "f4": "float",
    "f8": "double",
}
_DTYPES = {name: code for code, names in _TYPES.items() for name in names.split("|")}
_ENCODINGS = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
_COLOUR = re.compile(r"(rgba?|hsv|xyz)-color|complex|quaternion|.*matrix", re.IGNORECASE)
#: Signs that turn world axes into RAS, for the spaces that name patient axes.
_SPACES = {"right-anterior-superior": "RAS", "left-anterior-superior": "LAS", "left-posterior-superior": "LPS"}
_MM = {"": 1.0, "mm": 1.0, "millimeter": 1.0, "um": 1e-3, "µm": 1e-3, "micron": 1e-3, "cm": 10.0, "m": 1000.0}


@dataclass(frozen=True, eq=False)
class NrrdHeader:
    """What an NRRD header says.

    Args:
        sizes: of all axes, the fastest first.
        dtype: of the values as stored, with byte order.
        encoding: 'raw', 'gzip' or 'bzip2'.
        spatial: which three axes are space.
        directions: (3, 3), columns: one step along each spatial axis in world coordinates; None without any.
        spacings: per spatial axis, for files without directions; NaN where not said.
        origin: (3,) world coordinates of the first voxel, None when not said.
        space: 'RAS', 'LAS', 'LPS', or '' when the file names no patient axes.
        unit_mm: mm in the unit of the world coordinates.
        data_files: () when the values follow the header, else the names as written.
        line_skip: lines of the data file to pass over.
        byte_skip: then bytes; -1 = the values are at the end of the file.
        pairs: the key:=value lines.
    """

    sizes: tuple[int, ...]
    dtype: np.dtype
    encoding: str
    spatial: tuple[int, int, int]
    directions: np.ndarray | None
    spacings: tuple[float, float, float]
    origin: np.ndarray | None
    space: str
    unit_mm: float
    data_files: tuple[str, ...] = ()
    line_skip: int = 0
    byte_skip: int = 0
    pairs: Mapping[str, str] = field(default_factory=dict)


def read_nrrd_header(stream: BufferedIOBase, path: Path) -> NrrdHeader:
    """Parse the header at the start of `stream`, which is left at the first byte after it.

    Raises:
        InputError: MS-R101 broken header, MS-R102 impossible sizes, MS-R103 not a 3D image or a stack of such,
            MS-R104 values that are no single numbers, MS-R105 an encoding that is not read.
        GeometryError: MS-R112 broken directions or origin.
    """
    fields, pairs, files = read_fields(stream, path)
    sizes = _sizes(fields, path)
    directions, spatial, missing = _directions(fields, len(sizes), path)
    kinds = fields.get("kinds", "").split()
    if any(_COLOUR.fullmatch(kind) for kind in kinds):
        raise InputError(
            "MS-R104",
            f"its values are no single numbers (kinds: {' '.join(kinds)})",
            file=path,
            mend="write one file for each colour or component",
        )
    if spatial is None:
        spatial = _spatial(sizes, kinds, path)
    _require_volume(sizes, spatial, path)
    spacings = fields.get("spacings", "").split()
    i, j, k = (_number(spacings[a]) if len(spacings) == len(sizes) else float("nan") for a in spatial)
    return NrrdHeader(
        sizes=sizes,
        dtype=_dtype(fields, path),
        encoding=_encoding(fields, path),
        spatial=spatial,
        directions=None if missing else directions,
        spacings=(i, j, k),
        origin=_origin(fields, path),
        space=_space(fields, path),
        unit_mm=_unit(fields, path),
        data_files=files,
        line_skip=_whole(fields, "line skip", path),
        byte_skip=_whole(fields, "byte skip", path),
        pairs=pairs,
    )


def _sizes(fields: Mapping[str, str], path: Path) -> tuple[int, ...]:
    try:
        dimension = int(fields["dimension"])
        sizes = tuple(int(n) for n in fields["sizes"].split())
    except (KeyError, ValueError):
        raise broken(path, "its header states no dimension or no sizes") from None
    if len(sizes) != dimension or not 1 <= dimension <= 16 or any(n < 1 for n in sizes):
        raise InputError(
            "MS-R102",
            f"impossible sizes {fields['sizes']!r} for dimension {dimension}",
            file=path,
            mend="the header is damaged: copy the file again, or write it again from its source",
        )
    return sizes


def _directions(
    fields: Mapping[str, str], ndim: int, path: Path
) -> tuple[np.ndarray | None, tuple[int, int, int] | None, bool]:
    """(columns, which axes are spatial, whether the directions are absent)."""
    text = fields.get("space directions")
    if text is None:
        return None, None, True
    vectors = re.findall(r"none|\([^)]*\)", text)
    spatial = tuple(a for a, v in enumerate(vectors) if v != "none")
    columns = [[_number(x) for x in vectors[a].strip("()").split(",")] for a in spatial]
    if len(vectors) != ndim or len(spatial) != 3 or any(len(c) != 3 for c in columns):
        raise GeometryError(
            "MS-R112",
            f"its space directions are not three vectors of three numbers: {text!r}",
            file=path,
            mend="an image has three axes in space, and at most one more marked 'none': save it so, in 3D Slicer",
        )
    matrix = np.array(columns, np.float64).T
    lengths = np.linalg.norm(matrix, axis=0)
    if not np.isfinite(matrix).all() or (lengths == 0).any() or abs(np.linalg.det(matrix / lengths)) < 1e-6:
        raise GeometryError(
            "MS-R112",
            f"its space directions are not finite, zero or parallel: {text!r}",
            file=path,
            mend="the header is damaged: write the file again from its source",
        )
    i, j, k = spatial
    return matrix, (i, j, k), False


def _spatial(sizes: tuple[int, ...], kinds: list[str], path: Path) -> tuple[int, int, int]:
    axes = [a for a, kind in enumerate(kinds) if kind in ("domain", "space")] if len(kinds) == len(sizes) else []
    if len(axes) != 3:
        axes = list(range(3))
    _require_volume(sizes, axes, path)
    return axes[0], axes[1], axes[2]


def _require_volume(sizes: tuple[int, ...], spatial, path: Path) -> None:
    others = [n for a, n in enumerate(sizes) if a not in spatial and n > 1]
    if len(sizes) < 3 or len(others) > 1:
        raise InputError(
            "MS-R103",
            f"it has {len(sizes)} axes ({' x '.join(map(str, sizes))}); an image has 3, or 4 with channels or time",
            file=path,
            mend="stack the slices into one 3D file"
            if len(sizes) < 3
            else "write one file for each index of the others",
        )


def _dtype(fields: Mapping[str, str], path: Path) -> np.dtype:
    name = " ".join(fields.get("type", "").lower().split())
    if name not in _DTYPES:
        raise InputError(
            "MS-R104", f"its values are of type {name!r}", file=path, mend="write it as integers, float or double"
        )
    dtype = np.dtype(_DTYPES[name])
    endian = fields.get("endian", "little" if dtype.itemsize == 1 else "")
    if endian not in ("little", "big"):
        raise broken(path, f"its byte order is not stated (endian: {endian!r})")
    return dtype.newbyteorder("<" if endian == "little" else ">")


def _encoding(fields: Mapping[str, str], path: Path) -> str:
    name = fields.get("encoding", "").lower()
    if name not in _ENCODINGS:
        raise InputError(
            "MS-R105", f"its encoding is {name!r}", file=path, mend="save it as .nrrd with gzip or raw encoding"
        )
    return _ENCODINGS[name]


def _origin(fields: Mapping[str, str], path: Path) -> np.ndarray | None:
    text = fields.get("space origin")
    if text is None:
        return None
    numbers = np.array([_number(x) for x in text.strip("() ").split(",")], np.float64)
    if numbers.shape != (3,) or not np.isfinite(numbers).all():
        raise GeometryError(
            "MS-R112",
            f"its space origin is not three numbers: {text!r}",
            file=path,
            mend="the header is damaged: write the file again from its source",
        )
    return numbers


def _space(fields: Mapping[str, str], path: Path) -> str:
    name = fields.get("space", "").lower()
    if name.endswith("-time") or (len(name) == 4 and name.endswith("t")):
        raise InputError(
            "MS-R103",
            f"its space is four-dimensional ({name})",
            file=path,
            mend="save it with time as a list axis (kind 'list', direction 'none'), or one file for each time point",
        )
    return _SPACES.get(name, name.upper() if name in ("ras", "las", "lps") else "")


def _unit(fields: Mapping[str, str], path: Path) -> float:
    units = {unit.strip().lower() for unit in re.findall(r'"([^"]*)"', fields.get("space units", ""))} or {""}
    known = {_MM.get(unit) for unit in units}
    if len(known) != 1 or None in known:
        raise GeometryError(
            "MS-R112",
            f"its lengths are in {', '.join(sorted(units))}",
            file=path,
            mend="save it with space units of mm",
        )
    return known.pop() or 1.0


def _whole(fields: Mapping[str, str], key: str, path: Path) -> int:
    try:
        value = int(fields.get(key, "0"))
    except ValueError:
        value = -2
    if value < (-1 if key == "byte skip" else 0):
        raise broken(path, f"its {key} is {fields[key]!r}")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
