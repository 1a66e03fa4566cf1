"""Random intensities: seeded, by channel, never in place, meta kept."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from medseg.transforms import RandBiasd, RandBlurd, RandContrastd, RandGammad, RandLowResolutiond, RandNoised

ALL = [RandBiasd, RandBlurd, RandContrastd, RandGammad, RandLowResolutiond, RandNoised]


@pytest.mark.parametrize("kind", ALL)
def test_a_seed_says_all_and_the_image_given_stays(kind):
    image = torch.rand(2, 9, 8, 7)
    before = image.clone()
    transform = kind("image", prob=1.0)
    one, two = (transform.set_random_state(4)({"image": image})["image"] for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, transform({"image": image})["image"])
    assert torch.equal(image, before)
    assert (one.shape, one.dtype) == (image.shape, image.dtype)
    assert not torch.equal(one[0] - image[0], one[1] - image[1])
    assert torch.isfinite(one).all()


@pytest.mark.parametrize("kind", ALL)
def test_an_image_of_one_value_stays_finite(kind):
    for value in (0.0, 3.0):
        assert torch.isfinite(kind("image", prob=1.0)({"image": torch.full((1, 5, 5, 5), value)})["image"]).all()


@pytest.mark.parametrize("kind", ALL)
def test_an_axis_of_one_voxel_passes(kind):
    out = kind("image", prob=1.0)({"image": torch.rand(1, 1, 6, 5)})["image"]
    assert out.shape == (1, 1, 6, 5)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("kind", ALL)
def test_meta_stays_and_whole_numbers_become_floats(kind):
    affine = torch.diag(torch.tensor([1.0, 2, 3, 1], dtype=torch.float64))
    image = MetaTensor(torch.randint(0, 100, (1, 6, 6, 6)), affine=affine, meta={"who": "me"})
    out = kind("image", prob=1.0)({"image": image})["image"]
    assert torch.equal(out.affine, affine)
    assert out.meta["who"] == "me"
    assert out.dtype == torch.float32


def test_images_and_channels_come_up_as_often_as_said():
    transform = RandContrastd("image", prob=0.5, channel_prob=0.4).set_random_state(0)
    drawn = [transform.choose(4) for _ in range(1000)]
    assert sum(c is not None for choices in drawn for c in choices) / 4000 == pytest.approx(0.2, abs=0.03)
    assert sum(any(choices) for choices in drawn) / 1000 == pytest.approx(0.5 * (1 - 0.6**4), abs=0.05)
    image = torch.rand(1, 3, 3, 3)
    assert RandContrastd("image", prob=0.0)({"image": image})["image"] is image
