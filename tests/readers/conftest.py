"""Files made byte by byte, so that a test can break one field and nothing else."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest

AFFINE = np.array([[-0.8, 0.0, 0.0, 12.0], [0.0, 0.9, 0.0, -34.0], [0.0, 0.0, 2.5, 56.0], [0.0, 0.0, 0.0, 1.0]])


@pytest.fixture
def array():
    return np.random.default_rng(0).integers(-1000, 1000, (4, 5, 6)).astype(np.int16)


@pytest.fixture
def affine():
    return AFFINE.copy()


@pytest.fixture
def nifti(tmp_path, array):
    """`nifti(name, array=..., affine=..., version=1, edit=f, cut=n, tail=b"", **fields)` -> path.

    `fields` are set in the header after everything else, whatever they break; `edit` may change all the bytes.
    """

    def build(name="x.nii.gz", array=array, affine=AFFINE, version=1, endian="<", edit=None, tail=b"", **fields):
        kind = nib.Nifti1Header if version == 1 else nib.Nifti2Header
        header = kind(endianness=endian)
        header.set_data_dtype(array.dtype)
        header.set_data_shape(array.shape)
        header.set_qform(affine, 1)
        header.set_sform(affine, 1)
        header.set_xyzt_units("mm")
        header["vox_offset"] = header.single_vox_offset
        header["scl_slope"], header["scl_inter"] = 1, 0
        for key, value in fields.items():
            header[key] = value
        raw = header.binaryblock + b"\0" * 4 + array.astype(array.dtype.newbyteorder(endian)).tobytes("F") + tail
        raw = edit(raw) if edit else raw
        path = tmp_path / name
        path.write_bytes(gzip.compress(raw, 1, mtime=0) if name.endswith(".gz") else raw)
        return path

    return build
