from __future__ import annotations

import numpy as np
import pytest

from medseg.readers.open import read
from medseg.reports.body import body_of, first_channel, in_hounsfield_units
from medseg.volume import Source, Volume
from tests.reports.demo_case import affine_of, demo_case


@pytest.mark.parametrize("kind", ["RAS", "LAS", "oblique"])
def test_the_box_holds_the_body_and_little_else(kind):
    image = demo_case(kind).image
    body = image.array > 200
    box = body_of(image).box(image.grid.shape)
    inside = np.zeros(body.shape, bool)
    inside[box] = True
    assert not (body & ~inside).any()
    found = np.argwhere(body)
    tight = found.max(axis=0) - found.min(axis=0) + 1
    assert all(s.stop - s.start <= n + 24 for s, n in zip(box, tight, strict=True))


def test_a_table_under_the_patient_is_left_out():
    image = demo_case().image
    array = (image.array - 1000).astype(np.int16)
    array[:, 2:4, :] = 100  # thin, behind the body
    box = body_of(Volume(array, image.affine)).box(array.shape)
    assert box[1].start > 2


def test_air_below_zero_is_hounsfield_but_not_a_wrong_word():
    ct = np.full((20, 20, 20), -1000, np.int16)
    ct[5:15, 5:15, 5:15] = 40
    assert in_hounsfield_units(Volume(ct, np.eye(4)))
    assert in_hounsfield_units(Volume(ct, np.eye(4), Source(modality="CT")))
    assert not in_hounsfield_units(Volume(ct, np.eye(4), Source(modality="MR")))
    assert not in_hounsfield_units(Volume(ct + 1024, np.eye(4), Source(modality="CT"))), "no rescale intercept"
    assert not in_hounsfield_units(Volume(np.full((4, 4, 4), np.nan), np.eye(4)))
    mask = body_of(Volume(ct, np.eye(4) * [3, 3, 3, 1])).mask
    assert mask[10, 10, 10]
    assert not mask[0, 0, 0]


def test_an_image_without_air_or_of_nothing_is_kept_whole():
    flat = Volume(np.zeros((6, 5, 4), np.float32), affine_of("RAS", (6, 5, 4)))
    assert body_of(flat).box((6, 5, 4)) == (slice(0, 6), slice(0, 5), slice(0, 4))
    thin = Volume(np.random.default_rng(0).random((64, 64, 1)), np.diag([1.0, 1, 5, 1]))
    assert body_of(thin).box((64, 64, 1))[2] == slice(0, 1)


def test_channels_count_once():
    image = demo_case().image
    both = Volume(np.stack([image.array, image.array]), image.affine)
    assert np.array_equal(first_channel(both), image.array)
    assert np.array_equal(body_of(both).mask, body_of(image).mask)


def test_a_real_trunk(data):
    image = read(data("totalseg") / "example_ct.nii.gz")
    assert in_hounsfield_units(image)
    body = read(data("totalseg") / "example_seg_fast_force_split.nii.gz").array > 0
    box = body_of(image).box(image.grid.shape)
    inside = np.zeros(body.shape, bool)
    inside[box] = True
    assert not (body & ~inside).any()
