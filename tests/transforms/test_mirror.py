"""Mirroring: MONAI's flips, but the left kidney is on the left again, and everything comes back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, RandFlipd

from medseg.errors import UsageError
from medseg.labels import LabelTable
from medseg.transforms import RandMirrord
from medseg.transforms.mirror import Mirror, mirror_image, mirror_labels, mirror_pairs

LABELS = [
    {"value": 1, "name": "Left kidney", "mirror": "Right kidney"},
    {"value": 2, "name": "Liver"},
    {"value": 5, "name": "Right kidney", "mirror": "Left kidney"},
    {"value": 7, "name": "Left lung", "mirror": "Right lung"},
    {"value": 8, "name": "Right lung"},  # one side may name the other alone
]
PAIRS = ((1, 5), (7, 8))


def body() -> torch.Tensor:
    """(1, 8, 6, 4) in RAS: left is at low indices of axis 0; the liver is one lump on the right."""
    labels = torch.zeros(1, 8, 6, 4, dtype=torch.uint8)
    labels[0, 1:3, 1:3, 1] = 1
    labels[0, 5:7, 1:3, 1] = 5
    labels[0, 5:8, 4, 2] = 2
    labels[0, 0:2, 4, 3], labels[0, 6:8, 4, 3] = 7, 8
    return labels


def always(*axes: int, **options) -> RandMirrord:
    return RandMirrord(["image", "label"], "label", axes, prob=1.0, labels=LABELS, **{"axcodes": "RAS", **options})


def test_pairs_come_from_the_table():
    assert mirror_pairs(LabelTable.from_json(LABELS)) == PAIRS
    assert mirror_pairs(LabelTable.from_names(["a", "b"])) == ()


def test_left_is_on_the_left_again():
    labels = body()
    out = always(0)({"image": labels.float(), "label": labels})
    assert torch.equal(out["image"], labels.float().flip(1))
    for left, right in PAIRS:
        for value, low in ((left, True), (right, False)):
            where = (out["label"][0] == value).nonzero()[:, 0].float().mean()
            assert (where < 3.5) == low
    assert torch.equal(out["label"] == 2, (labels == 2).flip(1))
    assert out["label"].unique().tolist() == labels.unique().tolist()


@pytest.mark.parametrize(("axes", "swapped"), [((1,), False), ((2,), False), ((1, 2), False), ((0, 1), True)])
def test_sides_change_only_along_the_axis_from_left_to_right(axes, swapped):
    labels = body()
    found = always(*axes)({"image": labels.float(), "label": labels})["label"]
    flipped = labels.flip([a + 1 for a in axes])
    assert torch.equal(found == 1, flipped == (5 if swapped else 1))


def test_the_affine_says_where_left_is():
    turned = body().permute(0, 2, 1, 3)  # axes A, R, S
    affine = torch.tensor([[0, 2, 0, -9], [1, 0, 0, -3], [0, 0, 3, 7], [0, 0, 0, 1.0]])
    data = {key: MetaTensor(turned.clone(), affine=affine) for key in ("image", "label")}
    assert torch.equal(always(1)(data)["label"].as_tensor(), mirror_labels(turned, Mirror((1,), PAIRS)))
    assert torch.equal(always(0)(data)["label"].as_tensor(), turned.flip(1))


@pytest.mark.parametrize("seed", range(4))
def test_it_comes_back_by_inverse_and_invertd(seed):
    labels = body()
    affine = torch.diag(torch.tensor([1.0, 2, 3, 1]))
    data = {"image": MetaTensor(torch.rand(1, 8, 6, 4), affine=affine), "label": MetaTensor(labels, affine=affine)}
    pipeline = Compose([RandMirrord(["image", "label"], "label", labels=LABELS)]).set_random_state(seed)
    out = pipeline(data)
    assert len(out["label"].applied_operations) == 1
    assert torch.equal(out["label"].affine, data["label"].affine)  # another body on the same grid
    back = pipeline.inverse(out)
    for key in data:
        assert torch.equal(back[key].as_tensor(), data[key].as_tensor())
        assert back[key].applied_operations == []
    pred = MetaTensor(out["label"].as_tensor().clone(), affine=affine)
    inverted = Invertd("pred", pipeline, orig_keys="label", nearest_interp=False)({**out, "pred": pred})["pred"]
    assert torch.equal(inverted.as_tensor(), labels)


@given(axes=st.sets(st.integers(0, 2)), seed=st.integers(0, 99))
def test_twice_is_nothing(axes, seed):
    labels = torch.randint(0, 9, (2, 3, 4, 5), generator=torch.Generator().manual_seed(seed))
    choice, before = Mirror(tuple(axes), PAIRS), labels.clone()
    once = mirror_labels(labels, choice)
    assert torch.equal(mirror_labels(once, choice), labels)
    assert torch.equal(mirror_image(mirror_image(labels, choice), choice), labels)
    assert torch.equal(labels, before)


def test_without_pairs_it_is_monais_flip():
    image = torch.rand(1, 4, 5, 6)
    found = RandMirrord("image", axes=[1], prob=1.0)({"image": image})["image"]
    assert torch.equal(found, RandFlipd("image", prob=1.0, spatial_axis=1)({"image": image})["image"].as_tensor())


def test_instance_maps_keep_their_ids_and_their_classes_trade():
    ids = torch.tensor([0, 1, 2, 3]).reshape(1, 4, 1, 1).to(torch.int16)
    data = {"image": torch.rand(1, 4, 1, 1), "label": ids, "classes": torch.tensor([-1, 0, 1, 4])}
    transform = RandMirrord(
        ["image", "label"], (), [0], prob=1.0, labels=LABELS, classes_key="classes", axcodes="RAS"
    )  # fmt: skip
    out = transform(data)
    assert torch.equal(out["label"], ids.flip(1))
    assert out["classes"].tolist() == [-1, 4, 1, 0]
    assert data["classes"].tolist() == [-1, 0, 1, 4]


def test_axes_come_up_as_often_as_said():
    transform = RandMirrord("x", axes=(0, 2), prob=0.25).set_random_state(0)
    drawn = [transform.choose(None).axes for _ in range(1000)]
    for axis, share in ((0, 0.25), (1, 0.0), (2, 0.25)):
        assert sum(axis in axes for axes in drawn) / 1000 == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": [[1, 2], [2, 3]]}, "in two pairs"),
        (
            {"labels": [*LABELS, {"value": 9, "name": "third", "mirror": "Left lung"}]},
            "mirror image of",
        ),
    ],
)
def test_unclear_pairs_are_refused(options, message):
    with pytest.raises(UsageError, match=message) as caught:
        RandMirrord("label", "label", **options)
    assert caught.value.code == "MS-U156"


def test_without_directions_nobody_knows_left():
    transform = RandMirrord("label", "label", labels=[[1, 5]])
    with pytest.raises(UsageError, match="left and right") as caught:
        transform({"label": body()})
    assert caught.value.code == "MS-U156"
