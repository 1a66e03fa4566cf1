"""Where a NIfTI file says that its voxels lie: enough to know whether it is the volume that Slicer shows."""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

Matrix = tuple  # of 4 rows of 4 floats
_SIZE_1, _SIZE_2 = 348, 540


@dataclass(frozen=True)
class NiftiHeader:
    """A NIfTI header, as far as geometry goes.

    Args:
        shape: (I, J, K) or more.
        affines: every voxel index -> RAS mm that the file states: the sform and the qform where their codes are set.
    """

    shape: tuple[int, ...]
    affines: tuple[Matrix, ...]


def read_nifti_header(path: Path) -> NiftiHeader | None:
    """The header of a .nii or .nii.gz file of version 1 or 2; None when it is none or cannot be read."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            head = file.read(_SIZE_2)
        return _parse(head)
    except (OSError, EOFError, struct.error, ValueError):
        return None


def _parse(head: bytes) -> NiftiHeader | None:
    for order in "<>":
        size = struct.unpack_from(order + "i", head)[0]
        if size == _SIZE_1:
            dim = struct.unpack_from(order + "8h", head, 40)
            pixdim = struct.unpack_from(order + "8f", head, 76)
            qcode, scode = struct.unpack_from(order + "2h", head, 252)
            quatern = struct.unpack_from(order + "6f", head, 256)
            rows = struct.unpack_from(order + "12f", head, 280)
        elif size == _SIZE_2:
            dim = struct.unpack_from(order + "8q", head, 16)
            pixdim = struct.unpack_from(order + "8d", head, 104)
            qcode, scode = struct.unpack_from(order + "2i", head, 344)
            quatern = struct.unpack_from(order + "6d", head, 352)
            rows = struct.unpack_from(order + "12d", head, 400)
        else:
            continue
        affines = []
        if scode > 0:
            affines.append((rows[0:4], rows[4:8], rows[8:12], (0.0, 0.0, 0.0, 1.0)))
        if qcode > 0:
            affines.append(_from_quaternion(pixdim, quatern))
        return NiftiHeader(tuple(dim[1 : 1 + max(min(dim[0], 7), 0)]), tuple(affines))
    return None


def _from_quaternion(pixdim: tuple[float, ...], quatern: tuple[float, ...]) -> Matrix:
    """The qform, as nifti1.h defines it ("METHOD 2")."""
    b, c, d, *offset = quatern
    a = max(1.0 - b * b - c * c - d * d, 0.0) ** 0.5
    rotation = (
        (a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)),
        (2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)),
        (2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c),
    )
    sizes = (pixdim[1], pixdim[2], pixdim[3] * (-1.0 if pixdim[0] < 0 else 1.0))
    rows = [(*(r * size for r, size in zip(row, sizes)), at) for row, at in zip(rotation, offset)]
    return (*rows, (0.0, 0.0, 0.0, 1.0))
