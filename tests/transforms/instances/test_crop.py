"""Patches around instances: cut exactly, seeded, with affines that say where they lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor

from medseg.errors import UsageError
from medseg.transforms import RandDeformd, RandInstanceCropd
from medseg.transforms.instances.crop import cut_patch

SHAPE = st.tuples(*[st.integers(1, 7)] * 3)


@given(shape=SHAPE, size=SHAPE, start=st.tuples(*[st.integers(-9, 9)] * 3))
def test_a_patch_equals_the_padded_image(shape, size, start):
    image = np.random.default_rng(0).random((2, *shape)).astype(np.float32)
    padded = np.pad(image, ((0, 0), *[(20, 20)] * 3))
    expected = padded[:, *(slice(s + 20, s + 20 + n) for s, n in zip(start, size, strict=True))]
    np.testing.assert_array_equal(cut_patch(torch.from_numpy(image), start, size).numpy(), expected)


def test_the_affine_says_where_the_patch_lies():
    affine = torch.tensor([[0.0, -2, 0, 5], [1, 0, 0, -3], [0, 0, 4, 7], [0, 0, 0, 1]], dtype=torch.float64)
    image = MetaTensor(torch.rand(1, 6, 6, 6), affine=affine)
    patch = cut_patch(image, (2, -1, 3), (3, 3, 3))
    assert isinstance(patch, MetaTensor)
    first = affine @ torch.tensor([2.0, -1, 3, 1], dtype=torch.float64)
    assert torch.equal(patch.affine[:, 3], first)
    assert torch.equal(patch.affine[:3, :3], affine[:3, :3])
    assert torch.equal(image.affine, affine), "the input is left as it was"


def case(shape=(30, 20, 20)) -> dict:
    label = torch.zeros(1, *shape, dtype=torch.int16)
    label[0, 25:28, 2:5, 15:18] = 1
    return {"image": label.float() * 2, "label": label, "flags": torch.zeros(2, dtype=torch.uint8), "name": "a"}


def test_with_probability_one_the_instance_is_always_whole_and_keys_stay_together():
    crop = RandInstanceCropd(["image", "label"], "label", (8, 8, 8), prob=1.0).set_random_state(0)
    places = set()
    for _ in range(20):
        out = crop(case())
        assert out["label"].shape == out["image"].shape == (1, 8, 8, 8)
        assert (out["label"] == 1).sum() == 27
        assert torch.equal(out["image"], out["label"].float() * 2)
        assert out["name"] == "a"
        places.add(tuple(out["label"][0].nonzero()[0].tolist()))
    assert len(places) > 10, "not always in the middle"


def test_with_probability_zero_it_lies_anywhere():
    crop = RandInstanceCropd(["image", "label"], "label", (8, 8, 8), prob=0.0).set_random_state(0)
    found = [bool(crop(case())["label"].any()) for _ in range(40)]
    assert 0 < sum(found) < 20


def test_one_seed_gives_one_patch_and_an_empty_map_is_cut_anywhere():
    crop = RandInstanceCropd(["image", "label"], "label", (8, 30, 8), prob=1.0)
    a, b = (crop.set_random_state(3)(case())["image"] for _ in range(2))
    assert torch.equal(a, b)
    empty = {"image": torch.rand(1, 9, 9, 9), "label": torch.zeros(1, 9, 9, 9, dtype=torch.int16)}
    assert crop(empty)["image"].shape == (1, 8, 30, 8)


@pytest.mark.parametrize("label", [torch.zeros(1, 4, 4, 4), torch.zeros(4, 4, 4).short(), None])
def test_anything_but_an_instance_map_is_refused(label):
    data = {"image": torch.zeros(1, 4, 4, 4)} | ({} if label is None else {"label": label})
    with pytest.raises(UsageError, match="MS-U155"):
        RandInstanceCropd("image", "label", (2, 2, 2))(data)


def test_a_deformed_patch_lies_around_an_instance_too():
    how = {"prob": 0.0, "instance_key": "label"}
    sure = RandDeformd(["image", "label"], "label", (8, 8, 8), instance_prob=1.0, **how).set_random_state(0)
    for _ in range(10):
        assert (sure(case())["label"] == 1).sum() == 27
    never = RandDeformd(["image", "label"], "label", (8, 8, 8), instance_prob=0.0, **how).set_random_state(0)
    assert sum(bool(never(case())["label"].any()) for _ in range(20)) < 12
