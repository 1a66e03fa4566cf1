"""The grid lies where nnU-Net's arithmetic puts it, and predictions come back to the image's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from scipy.ndimage import map_coordinates

from medseg.errors import UsageError
from medseg.geometry import Grid
from medseg.transforms import FromNnunetGridd, ToNnunetGridd
from medseg.transforms.nnunet.grid import bounding_box, stretched

ZSCORE = [{"scheme": "zscore"}]
NONE = [{"scheme": "none"}]
ORDERS = st.permutations([0, 1, 2])


def scan(shape=(9, 8, 7), spacing=(1.0, 1.0, 1.0), seed=0, axes=(0, 1, 2), signs=(1, 1, 1)) -> MetaTensor:
    """A scan without zeros; its array axis n runs along patient axis axes[n]."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
        affine[axis, column] = sign * spacing[column]
    affine[:3, 3] = (5, -7, 11)
    values = np.random.default_rng(seed).uniform(1, 2, (1, *shape)).astype(np.float32)
    return MetaTensor(torch.from_numpy(values), affine=torch.tensor(affine))


@settings(max_examples=20, deadline=None)
@given(ORDERS)
def test_axes_are_the_files_reversed_and_then_transposed(transpose):
    image = scan()
    out = ToNnunetGridd("image", (1, 1, 1), NONE, transpose)({"image": image})["image"]
    want = image[0].numpy().transpose(2, 1, 0).transpose(transpose)  # SimpleITK's array, then nnU-Net's transpose
    np.testing.assert_array_equal(out[0].numpy(), want)


@settings(max_examples=20, deadline=None)
@given(ORDERS, st.tuples(*[st.integers(0, 8)] * 3))
def test_a_voxel_keeps_its_place_in_the_patient(transpose, at):
    image = scan((9, 9, 9))
    image[:] = 1
    image[(0, *at)] = 5
    out = ToNnunetGridd("image", (1, 1, 1), NONE, transpose)({"image": image})["image"]
    there = [*np.argwhere(out[0].numpy() == 5)[0], 1]
    np.testing.assert_allclose(out.affine.numpy() @ there, image.affine.numpy() @ [*at, 1])


def test_it_is_cropped_to_what_is_not_zero_in_any_channel():
    image = scan((10, 9, 8))
    image = MetaTensor(torch.zeros(2, 10, 9, 8), affine=image.affine)
    image[0, 2:5, 3, 4] = 1
    image[1, 4, 5:7, 4] = 1
    out = ToNnunetGridd("image", (1, 1, 1), NONE * 2)({"image": image})["image"]
    assert out.shape == (2, 1, 4, 3)
    np.testing.assert_array_equal(out.numpy(), image.numpy()[:, 2:5, 3:7, 4:5].transpose(0, 3, 2, 1))
    np.testing.assert_allclose(out.affine.numpy()[:3, 3], (image.affine.numpy() @ [2, 3, 4, 1])[:3])


def test_an_empty_image_stays_whole():
    out = ToNnunetGridd("image", (1, 1, 1), NONE)({"image": MetaTensor(torch.zeros(1, 4, 5, 6), affine=torch.eye(4))})
    assert out["image"].shape == (1, 6, 5, 4)


def test_the_nonzero_region_is_filled_before_it_is_standardised():
    image = MetaTensor(torch.zeros(1, 7, 7, 7), affine=torch.eye(4))
    image[0, 1:6, 1:6, 1:6] = torch.arange(125.0).reshape(5, 5, 5) + 1
    image[0, 3, 3, 3] = 0  # a hole counts as inside
    image[0, 1, 1, 1] = 0  # a corner does not
    out = ToNnunetGridd("image", (1, 1, 1), [{"scheme": "zscore", "nonzero": True}])({"image": image})["image"][0]
    inside = torch.ones(5, 5, 5, dtype=torch.bool)
    inside[0, 0, 0] = False
    assert abs(float(out[inside].mean())) < 1e-5
    assert abs(float(out[inside].std(correction=0)) - 1) < 1e-5
    assert out[0, 0, 0] == 0


def test_worked_example_of_the_resized_grid():
    image = scan((11, 4, 4), (0.7, 1, 1))
    out = ToNnunetGridd("image", (1, 1, 1), NONE)({"image": image})["image"]
    assert out.shape == (1, 4, 4, 8)
    edges = [np.array(image.affine @ torch.tensor([x, 0, 0, 1.0], dtype=torch.float64))[0] for x in (-0.5, 10.5)]
    ours = [float((out.affine @ torch.tensor([0, 0, x, 1.0], dtype=torch.float64))[0]) for x in (-0.5, 7.5)]
    np.testing.assert_allclose(ours, edges)
    assert float(out.affine[0, 2]) == pytest.approx(0.9625)


@settings(max_examples=25, deadline=None)
@given(ORDERS, st.permutations([0, 1, 2]), st.tuples(*[st.sampled_from([-1, 1])] * 3), st.booleans())
def test_labels_come_back_voxel_for_voxel_where_nothing_was_resized(transpose, axes, signs, turned):
    image = scan((6, 5, 7), axes=axes, signs=signs)
    image[0, :2] = 0  # cropped away
    truth = torch.randint(1, 4, (6, 5, 7), generator=torch.Generator().manual_seed(0))
    truth[:2] = 0  # background outside the crop
    label = MetaTensor(truth[None].to(torch.uint8), affine=image.affine)
    step = ToNnunetGridd("image", (1, 1, 1), ZSCORE, transpose, axcodes="RAS" if turned else None, label_keys="label")
    out = step({"image": image, "label": label})
    assert out["label"].shape == out["image"].shape
    logits = torch.nn.functional.one_hot(out["label"][0].long(), 4).movedim(-1, 0).float()
    back = FromNnunetGridd("pred")({"image": out["image"], "pred": logits})["pred"]
    np.testing.assert_array_equal(back[0].numpy(), truth.numpy())
    np.testing.assert_allclose(back.affine.numpy(), image.affine.numpy())


def test_turned_to_ras_the_network_sees_the_same_however_a_file_stores_it():
    image = scan((6, 5, 7))
    stored = MetaTensor(image.flip(1).permute(0, 3, 1, 2).contiguous().as_tensor())
    affine = np.zeros((4, 4))
    affine[:, 3] = image.affine.numpy() @ [5, 0, 0, 1]
    affine[:3, 0] = image.affine.numpy()[:3, 2]
    affine[:3, 1] = -image.affine.numpy()[:3, 0]
    affine[:3, 2] = image.affine.numpy()[:3, 1]
    stored.affine = torch.tensor(affine)
    step = ToNnunetGridd("image", (1, 1, 1), NONE, (2, 0, 1), axcodes="RAS")
    one, two = step({"image": image})["image"], step({"image": stored})["image"]
    np.testing.assert_array_equal(one.numpy(), two.numpy())
    np.testing.assert_allclose(one.affine.numpy(), two.affine.numpy())


@pytest.mark.parametrize("thick", [False, True])
def test_logits_are_exported_as_nnunet_does(thick):
    """Oracle: linear interpolation by scipy on nnU-Net's coordinates, planes of a thick axis by the nearest."""
    spacing = (0.8, 0.8, 4.0) if thick else (0.8, 1.3, 1.1)
    image = scan((12, 10, 6), spacing)
    step = ToNnunetGridd("image", (3.0, 1.0, 1.0), ZSCORE)
    out = step({"image": image})["image"]
    logits = torch.from_numpy(np.random.default_rng(3).normal(size=(3, *out.shape[1:])).astype(np.float32))
    back = FromNnunetGridd("pred")({"image": out, "pred": logits})["pred"][0].numpy()
    shape = (6, 10, 12)
    places = [n / m * (np.arange(m) + 0.5) - 0.5 for n, m in zip(out.shape[1:], shape, strict=True)]
    if thick:
        places[0] = np.floor(places[0] + 0.5)
    at = np.stack(np.meshgrid(*places, indexing="ij"))
    full = np.stack([map_coordinates(one, at, order=1, mode="nearest") for one in logits.numpy()])
    want = full.argmax(0).transpose(2, 1, 0)
    assert (back == want).mean() > 0.999
    top = np.sort(full, axis=0)
    clear = (top[-1] - top[-2] > 1e-4).transpose(2, 1, 0)
    np.testing.assert_array_equal(back[clear], want[clear])


def test_regions_are_painted_in_their_order():
    image = scan((2, 1, 1))
    out = ToNnunetGridd("image", (1, 1, 1), NONE)({"image": image})["image"]
    logits = torch.tensor([[1.0, 1.0], [-1.0, 2.0]]).reshape(2, 1, 1, 2)
    back = FromNnunetGridd("pred", regions=[1, 3])({"image": out, "pred": logits})["pred"]
    assert back.flatten().tolist() == [1, 3]


def test_a_stretched_grid_has_the_same_outer_edges():
    grid = Grid((4, 6, 10), np.diag([2.0, 1.0, 0.5, 1.0]))
    other = stretched(grid, (8, 3, 7))
    np.testing.assert_allclose(other.to_world(np.array([-0.5] * 3)), grid.to_world(np.array([-0.5] * 3)))
    np.testing.assert_allclose(other.to_world(np.array([7.5, 2.5, 6.5])), grid.to_world(np.array([3.5, 5.5, 9.5])))


def test_bounding_box():
    inside = np.zeros((4, 5, 6), bool)
    inside[1, 2:4, 5] = True
    assert bounding_box(inside) == (slice(1, 2), slice(2, 4), slice(5, 6))


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: ToNnunetGridd("image", (1, 1, 1), [{"scheme": "x"}]), "MS-U171"),
        (lambda: ToNnunetGridd("image", (1, 1, 1), NONE, (0, 0, 1)), "MS-U172"),
        (lambda: ToNnunetGridd("image", (1, 1, 1), NONE * 2)({"image": scan()}), "MS-U173"),
        (lambda: ToNnunetGridd("image", (1, 1, 1), NONE)({"image": torch.zeros(1, 2, 2, 2)}), "MS-U150"),
        (lambda: FromNnunetGridd("pred")({"image": scan(), "pred": torch.zeros(2, 9, 8, 7)}), "MS-U151"),
        (lambda: FromNnunetGridd("pred", resizing={"order": 3}), "MS-U171"),
    ],
)
def test_what_is_refused(make, code):
    with pytest.raises(UsageError) as caught:
        make()
    assert caught.value.code == code
