"""Distance maps: scipy as oracle, signs and symmetry, unknown voxels, and the way through transforms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Compose, ConcatItemsd, Flipd, Orientationd, SpatialCropd
from scipy.ndimage import distance_transform_edt

from medseg.errors import UsageError
from medseg.transforms import DistanceMapsd
from medseg.transforms.distance_maps import signed_distance_mm


def label(shape=(9, 8, 7), spacing=(0.7, 1.3, 3.0), classes=3, seed=0) -> MetaTensor:
    rng = torch.Generator().manual_seed(seed)
    affine = torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64))
    return MetaTensor(torch.randint(0, classes, (1, *shape), generator=rng).float(), affine=affine)


def scipys(mask: np.ndarray, spacing) -> np.ndarray:
    return distance_transform_edt(~mask, sampling=spacing) - distance_transform_edt(mask, sampling=spacing)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 999), st.floats(0.05, 0.95), st.tuples(*[st.floats(0.3, 5)] * 3), st.sampled_from("CF"))
def test_it_is_scipys_and_its_complements_negative(seed, share, spacing, order):
    rng = np.random.default_rng(seed)
    mask = np.asarray(rng.random(rng.integers(1, 9, 3)) < share, order=order)
    found = signed_distance_mm(mask, spacing)
    assert found.dtype == np.float32
    if mask.all() or not mask.any():
        assert (found == 0).all()
        return
    np.testing.assert_allclose(found, scipys(mask, spacing), rtol=1e-5)
    np.testing.assert_array_equal(found, -signed_distance_mm(~mask, spacing))
    np.testing.assert_array_equal(found < 0, mask)


def test_a_row_by_hand():
    row = np.array([0, 0, 1, 1, 1], bool).reshape(5, 1, 1)
    assert signed_distance_mm(row, (2, 1, 1)).ravel().tolist() == [4, 2, -2, -4, -6]
    # The third voxel unknown: the surface lies somewhere between the second and the fourth.
    unknown = np.array([0, 0, 1, 0, 0], bool).reshape(5, 1, 1)
    assert signed_distance_mm(row, (2, 1, 1), unknown).ravel().tolist() == [6, 4, 0, -4, -6]


def test_unknown_voxels_are_on_neither_side():
    rng = np.random.default_rng(0)
    mask, unknown = rng.random((9, 8, 7)) < 0.5, rng.random((9, 8, 7)) < 0.3
    found = signed_distance_mm(mask, (1, 2, 3), unknown)
    to_inside = distance_transform_edt(~(mask & ~unknown), sampling=(1, 2, 3))
    to_outside = distance_transform_edt(mask | unknown, sampling=(1, 2, 3))
    np.testing.assert_allclose(found, np.where(unknown, 0, np.where(mask, -to_outside, to_inside)), rtol=1e-5)


def test_each_class_has_its_map_in_the_affines_mm():
    item = {"label": label()}
    maps = DistanceMapsd("label", [1, 2, [1, 2]])(item)["distances"]
    y = item["label"][0].numpy()
    assert maps.shape == (3, 9, 8, 7)
    for found, mask in zip(maps, (y == 1, y == 2, y > 0), strict=True):
        np.testing.assert_allclose(found, scipys(mask, (0.7, 1.3, 3.0)), rtol=1e-5)
    assert torch.equal(maps.affine, item["label"].affine)
    assert "distances" not in item
    # A plain tensor, its spacing given; one-hot channels instead of values; 255 unknown.
    given = DistanceMapsd("label", [1, 2], "far", spacing_mm=(0.7, 1.3, 3.0))({"label": item["label"].as_tensor()})[
        "far"
    ]
    assert torch.equal(given, maps[:2].as_tensor())
    onehot = torch.cat([(item["label"].as_tensor() == c).float() for c in range(3)])
    channels = DistanceMapsd("label", [1, [1, 2]], spacing_mm=(0.7, 1.3, 3.0))({"label": onehot})["distances"]
    assert torch.equal(channels, maps[[0, 2]].as_tensor())
    marked = label()
    marked[:, :2] = 255
    found = DistanceMapsd("label", [1], ignore_index=255)({"label": marked})["distances"]
    expected = signed_distance_mm(marked[0].numpy() == 1, (0.7, 1.3, 3.0), marked[0].numpy() == 255)
    np.testing.assert_array_equal(found[0], expected)


def test_turning_and_cutting_keep_them_and_they_end_behind_the_label():
    y = label((12, 11, 10))
    y.affine = torch.diag(torch.tensor([-0.7, 1.3, 3.0, 1.0], dtype=torch.float64))
    steps = [
        DistanceMapsd("label", [1, 2]),
        Orientationd(["label", "distances"], axcodes="RAS", labels=None),
        Flipd(["label", "distances"], spatial_axis=1),
        SpatialCropd(["label", "distances"], roi_start=(2, 3, 1), roi_end=(9, 9, 9)),
        ConcatItemsd(["label", "distances"], name="label"),
    ]
    found = Compose(steps)({"label": y})["label"]
    whole = Compose([*steps[1:3]])({"label": y, "distances": y})["label"]
    assert found.shape == (3, 7, 6, 8)
    assert torch.equal(found[:1].as_tensor(), whole[:, 2:9, 3:9, 1:9].as_tensor())
    expected = scipys(whole[0].numpy() == 2, (0.7, 1.3, 3.0))[2:9, 3:9, 1:9]
    np.testing.assert_allclose(found[2], expected, rtol=1e-5)


def test_what_has_no_place_in_space_is_refused():
    for bad in (torch.zeros(1, 3, 3, 3), MetaTensor(torch.zeros(3, 3, 3)), np.zeros((1, 3, 3, 3))):
        with pytest.raises(UsageError, match=r"(?s)distances need a \(C, I, J, K\) MetaTensor.*VolumeReader") as caught:
            DistanceMapsd("label", [1])({"label": bad})
        assert caught.value.code == "MS-U150"
    with pytest.raises(ValueError, match="a name for the maps of each"):
        DistanceMapsd("label", [1], ["a", "b"])
    with pytest.raises(KeyError, match="label"):
        DistanceMapsd("label", [1])({})
    assert DistanceMapsd("label", [1], allow_missing_keys=True)({}) == {}
