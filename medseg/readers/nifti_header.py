"""The header of a NIfTI-1 or NIfTI-2 file, either byte order, as plain checked values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from nibabel.nifti1 import header_dtype as nifti1_dtype
from nibabel.nifti2 import header_dtype as nifti2_dtype

from medseg.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

#: NIfTI datatype code -> numpy type, for what is one number a voxel.
_DTYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
_NO_NUMBER = {
    32: "complex numbers", 1792: "complex numbers", 2048: "complex numbers", 128: "RGB colours",
    2304: "RGBA colours", 1: "single bits", 1536: "128-bit floats",
}  # fmt: skip
#: Factor to mm of the three low bits of xyzt_units; 0 is "unknown", which everyone reads as mm.
_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}


@dataclass(frozen=True, eq=False)
class NiftiHeader:
    """What a NIfTI header says.

    Args:
        version: 1 or 2.
        paired: the voxels lie in an .img file of their own.
        size: bytes of the header (348 or 540).
        shape: (I, J, K) or (I, J, K, N), trailing axes of one voxel removed.
        dtype: of the voxels as stored, with byte order.
        offset: where the voxels begin in their file, bytes.
        slope: multiply stored values by this, 0.0 where the file asks for no scaling.
        inter: then add this.
        pixdim: eight values as stored; [0] is the handedness of the qform, [1:4] spacings in the file's unit.
        unit_mm: mm in the file's unit of length.
        qform_code: 0 = no qform.
        quaternion: (b, c, d, x, y, z) as stored.
        sform_code: 0 = no sform.
        sform: (3, 4) as stored.
        description: `descrip`, printable.
        intent: NIFTI_INTENT code; 1002 is a label map.
    """

    version: int
    paired: bool
    size: int
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    slope: float
    inter: float
    pixdim: np.ndarray
    unit_mm: float
    qform_code: int
    quaternion: np.ndarray
    sform_code: int
    sform: np.ndarray
    description: str
    intent: int

    @property
    def grid_shape(self) -> tuple[int, int, int]:
        """(I, J, K)."""
        i, j, k = self.shape[:3]
        return i, j, k


def header_size(first: bytes) -> int:
    """348 (NIfTI-1) or 540 (NIfTI-2) bytes, from the first four."""
    return 540 if 540 in (int.from_bytes(first, "little"), int.from_bytes(first, "big")) else 348


def parse_header(raw: bytes, path: Path) -> NiftiHeader:
    """Parse the 348 or 540 bytes of a NIfTI header.

    Raises:
        InputError: MS-N101 cut header, MS-N102 impossible dimensions, MS-N103 not a 3D image or a stack of such,
            MS-N104 voxels are no single numbers, MS-N105 impossible data offset, MS-N106 broken scaling.
    """
    size = header_size(raw[:4])
    if len(raw) < size:
        raise InputError(
            "MS-N101",
            f"the header ends early: {len(raw)} of {size} bytes",
            file=path,
            mend="copy or download it again",
        )
    order = "<" if int.from_bytes(raw[:4], "little") == size else ">"
    fields = np.frombuffer(raw, (nifti2_dtype if size == 540 else nifti1_dtype).newbyteorder(order), 1)[0]
    paired = bytes(fields["magic"])[1:2] == b"i"
    slope, inter = _scaling(float(fields["scl_slope"]), float(fields["scl_inter"]), path)
    return NiftiHeader(
        version=2 if size == 540 else 1,
        paired=paired,
        size=size,
        shape=_shape([int(n) for n in fields["dim"]], path),
        dtype=_dtype(int(fields["datatype"]), path).newbyteorder(order),
        offset=_offset(float(fields["vox_offset"]), size, path, paired=paired),
        slope=slope,
        inter=inter,
        pixdim=fields["pixdim"].astype(np.float64),
        unit_mm=_MM.get(int(fields["xyzt_units"]) & 7, 1.0),
        qform_code=int(fields["qform_code"]),
        quaternion=np.array(
            [fields[name] for name in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")],
            np.float64,
        ),
        sform_code=int(fields["sform_code"]),
        sform=np.array([fields[f"srow_{axis}"] for axis in "xyz"], np.float64),
        description=_text(bytes(fields["descrip"])),
        intent=int(fields["intent_code"]),
    )


def _shape(dim: list[int], path: Path) -> tuple[int, ...]:
    ndim = dim[0]
    if not 1 <= ndim <= 7 or any(n < 1 for n in dim[1 : ndim + 1]):
        raise InputError(
            "MS-N102",
            f"impossible dimensions {dim[1 : ndim + 1] if 1 <= ndim <= 7 else dim} (dim[0] = {ndim})",
            file=path,
            mend="the header is damaged: copy the file again, or write it again from its source",
        )
    shape = tuple(dim[1 : ndim + 1])
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) in (3, 4):
        return shape
    size = " x ".join(str(n) for n in shape)
    mend = (
        "stack the slices into one 3D file"
        if len(shape) < 3
        else "keep three axes and one of channels or time: write one file for each index of the others"
    )
    raise InputError(
        "MS-N103",
        f"it has {len(shape)} dimensions ({size}); an image has 3, or 4 with channels or time points",
        file=path,
        mend=mend,
    )


def _dtype(code: int, path: Path) -> np.dtype:
    if code in _DTYPES:
        return np.dtype(_DTYPES[code])
    held = _NO_NUMBER.get(code, f"an unknown datatype (code {code})")
    raise InputError(
        "MS-N104",
        f"its voxels hold {held}, not one number each",
        file=path,
        mend="write it as integers or float32: one file for each colour, or the magnitude of complex numbers",
    )


def _offset(value: float, size: int, path: Path, *, paired: bool) -> int:
    default = 0 if paired else size + 4
    if value == 0:
        return default
    if not math.isfinite(value) or value != int(value) or value < (0 if paired else size):
        raise InputError(
            "MS-N105",
            f"its voxels would begin at byte {value:g} (vox_offset)",
            file=path,
            mend="the header is damaged: copy the file again, or write it again from its source",
        )
    return int(value)


def _scaling(slope: float, inter: float, path: Path) -> tuple[float, float]:
    if slope == 0 or math.isnan(slope) or (slope == 1 and inter == 0):
        return 0.0, 0.0
    if not math.isfinite(slope) or not math.isfinite(inter):
        raise InputError(
            "MS-N106",
            f"its scaling is not a number (scl_slope {slope:g}, scl_inter {inter:g})",
            file=path,
            mend="the header is damaged: set scl_slope to 0 if the stored values are meant, or write the file again",
        )
    return slope, inter


def _text(raw: bytes) -> str:
    text = raw.split(b"\0", 1)[0].decode("utf-8", "replace").strip()
    return "".join(c for c in text if c.isprintable())
