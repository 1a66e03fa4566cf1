from __future__ import annotations

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from MedSegLib.nifti_header import read_nifti_header


def oblique(seed):
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation * rng.uniform(0.3, 4, 3)
    affine[:3, 3] = rng.uniform(-500, 500, 3)
    return affine


@given(
    seed=st.integers(0, 10**6),
    version=st.sampled_from([1, 2]),
    big=st.booleans(),
    codes=st.sampled_from([(1, 1), (0, 1), (2, 0), (0, 0)]),
)
def test_what_nibabel_reads(tmp_path, seed, version, big, codes):
    """The oracle is nibabel: shape, sform and qform of either version and byte order, packed or not."""
    kind = (nibabel.Nifti1Header, nibabel.Nifti2Header)[version - 1]
    image_kind = (nibabel.Nifti1Image, nibabel.Nifti2Image)[version - 1]
    header = kind(endianness=">" if big else "<")
    image = image_kind(np.zeros((3, 4, 5), np.uint8), oblique(seed), header)
    image.set_sform(oblique(seed), codes[0])
    image.set_qform(oblique(seed), codes[1])
    path = tmp_path / ("x.nii" if seed % 2 else "x.nii.gz")
    image.to_filename(path)
    there = nibabel.load(path).header
    found = read_nifti_header(path)
    assert found is not None
    assert found.shape == (3, 4, 5)
    expected = [there.get_sform(coded=True)[0], there.get_qform(coded=True)[0]]
    expected = [affine for affine in expected if affine is not None]
    assert len(found.affines) == len(expected)
    for mine, theirs in zip(found.affines, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)


@pytest.mark.parametrize("content", [b"", b"x", b"\x1f\x8b broken", b"\0" * 600])
def test_what_is_no_nifti(tmp_path, content):
    (tmp_path / "x.nii.gz").write_bytes(content)
    assert read_nifti_header(tmp_path / "x.nii.gz") is None
    assert read_nifti_header(tmp_path / "gone.nii") is None
