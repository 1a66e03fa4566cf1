"""Volumes as a page carries them: whole numbers of few bits, NIfTI, gzip, in memory."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np
from isal import igzip
from nibabel.nifti1 import Nifti1Header

from medseg.geometry import Grid
from medseg.reports.body import sample_of

_SCANNER = 1
_INTENT_LABEL = 1002
#: Grey values of an image that is not whole numbers: more than a screen or an eye tells apart, and 12 bits pack well.
_GREYS = 4095
_LEVEL = 2


@dataclass(frozen=True, eq=False)
class Packed:
    """A volume as it travels: `value = stored * slope + inter`.

    Args:
        nifti: the bytes of a .nii.gz file.
        slope: step between two stored values.
        inter: value of a stored 0.
    """

    nifti: bytes
    slope: float = 1.0
    inter: float = 0.0

    def base64(self) -> str:
        """The file as text, a third longer."""
        return base64.b64encode(self.nifti).decode("ascii")


def pack_image(array: np.ndarray, affine: np.ndarray) -> Packed:
    """(I, J, K) grey values as int16.

    Whole numbers that int16 holds are stored as they are. Others become 4096 steps from the lowest value to the
    highest, or, so that a few stray voxels do not spoil the rest, to three times the range of 99.9 % of them;
    what is not finite becomes the lowest.
    """
    if array.dtype.kind in "bu" or array.dtype.kind == "i":
        low, high = int(array.min()), int(array.max())
        if low >= -32768 and high <= 32767:
            return Packed(_nifti(array.astype("<i2", copy=False), affine))
    values = array.astype(np.float32)
    finite = np.isfinite(values)
    if not finite.any():
        return Packed(_nifti(np.zeros(values.shape, "<i2"), affine))
    low, high = float(values[finite].min()), float(values[finite].max())
    values[~finite] = low
    if low >= -32768 and high <= 32767 and bool((values == np.rint(values)).all()):
        return Packed(_nifti(values.astype("<i2"), affine))
    top = float(np.percentile(sample_of(values), 99.9))
    high = min(high, low + 3 * (top - low)) if top > low else high
    slope = (high - low) / _GREYS if high > low else 1.0
    stored = np.rint((np.clip(values, low, high) - low) / slope).astype("<i2")
    slope, low = float(np.float32(slope)), float(np.float32(low))  # as the header holds them
    return Packed(_nifti(stored, affine, slope, low), slope, low)


def pack_labels(indices: np.ndarray, affine: np.ndarray) -> Packed:
    """(I, J, K) uint8 numbers of structures, 0 for none."""
    return Packed(_nifti(indices.astype("u1", copy=False), affine, label=True))


def pack_map(array: np.ndarray, affine: np.ndarray) -> Packed:
    """(I, J, K) values in [0, 1] as uint8: 255 steps up to the largest value; what is not finite becomes 0."""
    values = np.nan_to_num(array.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    slope = float(np.float32(max(float(values.max(initial=0.0)), 1e-6) / 255))
    stored = np.rint(np.clip(values / slope, 0, 255)).astype("u1")
    return Packed(_nifti(stored, affine, slope), slope)


def _nifti(
    voxels: np.ndarray, affine: np.ndarray, slope: float = 1.0, inter: float = 0.0, label: bool = False
) -> bytes:
    header = Nifti1Header(endianness="<")
    header.set_data_dtype(voxels.dtype)
    header.set_data_shape(voxels.shape)
    grid = Grid((voxels.shape[0], voxels.shape[1], voxels.shape[2]), affine)
    header.set_qform(grid.affine, _SCANNER if grid.shear_deg < 1e-3 else 0, strip_shears=True)
    header.set_sform(grid.affine, _SCANNER)
    header.set_xyzt_units("mm")
    header["scl_slope"], header["scl_inter"] = slope, inter
    header["vox_offset"] = header.single_vox_offset
    if label:
        header["intent_code"] = _INTENT_LABEL
    data = header.binaryblock + b"\0\0\0\0" + voxels.tobytes(order="F")
    return igzip.compress(data, compresslevel=_LEVEL, mtime=0)
