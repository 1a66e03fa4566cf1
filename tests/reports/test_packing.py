from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medseg.reports.packing import Packed, pack_image, pack_labels, pack_map
from tests.reports.demo_case import affine_of


def opened(packed: Packed) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(__import__("gzip").decompress(packed.nifti))


@pytest.mark.parametrize("kind", ["RAS", "LAS", "oblique"])
def test_nibabel_reads_back_values_and_place(kind):
    affine = affine_of(kind)
    array = np.random.default_rng(1).integers(-1024, 3000, (5, 6, 7)).astype(np.int16)
    image = opened(pack_image(array, affine))
    assert image.get_data_dtype() == np.int16
    assert np.array_equal(image.get_fdata(), array)
    assert np.allclose(image.affine, affine, atol=1e-5)
    assert np.allclose(image.get_qform(), affine, atol=1e-4)
    assert image.header.get_xyzt_units()[0] == "mm"


@given(
    hnp.arrays(np.float32, (4, 3, 5), elements=st.floats(-1e4, 1e4, width=32)),
    st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_grey_values_come_back_within_half_a_step(array, scale):
    packed = pack_image(array * scale, np.eye(4))
    values = opened(packed).get_fdata()
    top = array.max() * scale if packed.slope == 1.0 else packed.inter + 4095 * packed.slope
    wanted = np.minimum(array * scale, top)
    assert np.abs(values - wanted).max() <= packed.slope * 0.501 + 1e-4 * abs(top) * 0.01


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.float64, bool])
def test_whole_numbers_are_exact_whatever_their_type(dtype):
    array = (np.arange(24) % 2 if dtype is bool else np.arange(24)).reshape(2, 3, 4).astype(dtype)
    packed = pack_image(array, np.eye(4))
    assert packed.slope == 1.0
    assert np.array_equal(opened(packed).get_fdata(), array.astype(float))


def test_what_is_not_finite_becomes_the_lowest():
    array = np.array([[[np.nan, np.inf, -np.inf, 0.5, 2.25]]], np.float32)
    values = opened(pack_image(array, np.eye(4))).get_fdata()
    assert np.allclose(values, [[[0.5, 0.5, 0.5, 0.5, 2.25]]], atol=1e-3)
    assert not opened(pack_image(np.full((2, 2, 2), np.nan), np.eye(4))).get_fdata().any()


def test_a_stray_voxel_does_not_flatten_the_rest():
    array = np.random.default_rng(0).random((40, 40, 40)).astype(np.float32)
    array[0, 0, 0] = 1e7
    packed = pack_image(array, np.eye(4))
    assert packed.slope < 1e-3


def test_values_too_large_for_int16_are_scaled():
    array = np.array([[[0, 100_000, 50_000]]], np.int32)
    packed = pack_image(array, np.eye(4))
    assert np.allclose(opened(packed).get_fdata(), array, atol=packed.slope)


@given(hnp.arrays(np.float32, (3, 4, 5), elements=st.floats(0, 1, width=32)))
def test_maps_come_back_within_half_a_step(array):
    packed = pack_map(array, np.eye(4))
    image = opened(packed)
    assert image.get_data_dtype() == np.uint8
    assert np.abs(image.get_fdata() - array).max() <= packed.slope * 0.501
    assert packed.slope <= 1 / 254


def test_labels_say_that_they_are_labels():
    image = opened(pack_labels(np.arange(8, dtype=np.uint8).reshape(2, 2, 2), np.eye(4)))
    assert int(image.header["intent_code"]) == 1002
    assert np.array_equal(np.asarray(image.dataobj), np.arange(8).reshape(2, 2, 2))


def test_one_array_gives_one_file():
    array = np.arange(60).reshape(3, 4, 5).astype(np.int16)
    assert pack_image(array, np.eye(4)).nifti == pack_image(array.copy(order="F"), np.eye(4)).nifti
