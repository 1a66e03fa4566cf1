import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from scipy import ndimage

from medseg.errors import UsageError
from medseg.transforms import CleanComponentsd
from medseg.transforms.components import drop_pieces, fill_holes

AFFINE = np.diag([1.0, 2.0, 0.5, 1.0])  # a voxel is 1 mm3


def scene():
    """Label 1: a hollow cube (98 voxels around 27, of which one is label 3) and a stray of 2; label 2: 8 and 4."""
    labels = np.zeros((16, 14, 12), np.uint8)
    labels[2:7, 2:7, 2:7] = 1
    labels[3:6, 3:6, 3:6] = 0
    labels[4, 4, 4] = 3
    labels[10, 10, 8:10] = 1
    labels[10:12, 2:4, 2:4] = 2
    labels[14, 12, 4:8] = 2
    return labels


def meta(labels, dtype=torch.uint8):
    return MetaTensor(torch.from_numpy(labels)[None].to(dtype), affine=torch.tensor(AFFINE), meta={"x": 1})


def clean(labels, dtype=torch.uint8, **options):
    return CleanComponentsd("pred", **options)({"pred": meta(labels, dtype)})["pred"]


def test_the_largest_piece_stays_and_the_rest_is_on_record():
    found = clean(scene(), largest=(1, 2))
    want = scene()
    want[10, 10, 8:10] = 0
    want[14, 12, 4:8] = 0
    np.testing.assert_array_equal(found[0].numpy(), want)
    assert found.meta["cleaned_ml"] == {1: pytest.approx(0.002), 2: pytest.approx(0.004)}
    assert found.meta["filled_ml"] == {}
    assert found.meta["x"] == 1
    np.testing.assert_array_equal(found.affine, AFFINE)


def test_small_pieces_go_by_their_volume():
    found = clean(scene(), min_mm3={2: 4.5})
    assert (found == 2).sum() == 8
    assert (clean(scene(), min_mm3={2: 4.0}) == 2).sum() == 12
    assert (clean(scene(), min_mm3={2: 100.0}) == 2).sum() == 0
    assert found.meta["cleaned_ml"] == {2: pytest.approx(0.004)}


def test_json_writes_the_values_as_text():
    assert torch.equal(clean(scene(), min_mm3={"2": 4.5}), clean(scene(), min_mm3={2: 4.5}))


def test_holes_are_filled_around_other_structures():
    found = clean(scene(), fill_holes=(1,))
    want = scene()
    want[3:6, 3:6, 3:6] = 1
    want[4, 4, 4] = 3
    np.testing.assert_array_equal(found[0].numpy(), want)
    assert found.meta["filled_ml"] == {1: pytest.approx(0.026)}


def test_a_hole_with_a_way_out_through_a_face_is_no_hole_through_a_corner_it_is():
    cube = np.zeros((7, 7, 7), np.uint8)
    cube[1:6, 1:6, 1:6] = 1
    cube[3, 3, 3] = 0
    through_corner = cube.copy()
    through_corner[2, 2, 2] = through_corner[1, 1, 1] = 0
    assert fill_holes(through_corner, 1) == 2
    through_face = cube.copy()
    through_face[3, 3, :3] = 0
    assert fill_holes(through_face, 1) == 0


def test_voxels_that_share_a_corner_are_one_piece():
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[1, 1, 1] = labels[2, 2, 2] = labels[5, 5, 5] = 1
    assert drop_pieces(labels, 1, only_largest=True) == 1
    assert labels[1, 1, 1] == labels[2, 2, 2] == 1


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64, torch.float32])
def test_the_dtype_stays_and_the_input_is_left_alone(dtype):
    labels = meta(scene(), dtype)
    found = CleanComponentsd("pred", largest=(1,), fill_holes=(1,))({"pred": labels})["pred"]
    assert found.dtype == dtype
    np.testing.assert_array_equal(labels[0].numpy(), scene())
    assert "cleaned_ml" not in labels.meta


def test_absent_structures_and_no_wishes_change_nothing():
    found = clean(scene(), largest=(9,), min_mm3={8: 5}, fill_holes=(7,))
    np.testing.assert_array_equal(found[0].numpy(), scene())
    assert found.meta["cleaned_ml"] == {8: 0.0, 9: 0.0}
    np.testing.assert_array_equal(clean(scene())[0].numpy(), scene())


@given(st.integers(0, 999), st.integers(1, 12))
def test_equals_scipy_label(seed, least):
    labels = (np.random.default_rng(seed).random((9, 8, 7)) < 0.12).astype(np.uint8) * 2
    pieces, n = ndimage.label(labels == 2, structure=np.ones((3, 3, 3)))
    sizes = ndimage.sum_labels(labels == 2, pieces, np.arange(1, n + 1))
    want = np.isin(pieces, 1 + np.flatnonzero(sizes >= least))
    found = labels.copy()
    removed = drop_pieces(found, 2, least)
    np.testing.assert_array_equal(found == 2, want)
    assert removed == (labels == 2).sum() - want.sum()
    found = labels.copy()
    drop_pieces(found, 2, only_largest=True)
    assert (found == 2).sum() == sizes.max(initial=0)


@pytest.mark.parametrize("wrong", [torch.zeros(1, 4, 4, 4), MetaTensor(torch.zeros(2, 4, 4, 4))])
def test_what_is_no_label_map_is_named(wrong):
    with pytest.raises(UsageError, match=r"MS-U154 'pred' must be a \(1, I, J, K\) label map"):
        CleanComponentsd("pred", largest=(1,))({"pred": wrong})


def test_missing_keys_are_refused_or_allowed():
    with pytest.raises(KeyError, match="pred"):
        CleanComponentsd("pred")({})
    assert CleanComponentsd("pred", allow_missing_keys=True)({}) == {}
