"""A batch is augmented as its samples are, each by its own draws."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor, list_data_collate
from monai.transforms import RandScaleIntensityd

from medseg.transforms import AugmentBatch, RandContrastd, RandDeformd, RandMirrord, RandNoised


def transforms() -> list:
    both = ["image", "label"]
    return [
        RandDeformd(both, "label", (8, 8, 8), prob=0.7),
        RandMirrord(both, "label", labels=[[1, 2]], axcodes="RAS"),
        RandScaleIntensityd("image", factors=0.2, prob=1.0),
        RandContrastd("image", prob=1.0),
        RandNoised("image", prob=0.5),
    ]


def batch(count: int = 3) -> dict:
    one = {"image": torch.rand(1, 12, 11, 10), "label": torch.randint(0, 3, (1, 12, 11, 10), dtype=torch.uint8)}
    return list_data_collate([dict(one) for _ in range(count)]) | {"name": ["a"] * count}


def test_every_sample_has_draws_of_its_own_and_a_seed_says_all():
    given = batch()
    one, two = (AugmentBatch(["image", "label"], transforms(), seed=3)(given) for _ in range(2))
    for key, shape in (("image", (3, 1, 8, 8, 8)), ("label", (3, 1, 8, 8, 8))):
        assert one[key].shape == shape
        assert torch.equal(one[key], two[key])
        assert not torch.equal(one[key][0], one[key][1])
    assert one["label"].dtype == torch.uint8
    assert one["name"] == ["a"] * 3
    assert given["image"].shape == (3, 1, 12, 11, 10)


def test_one_transform_equals_the_samples_in_turn():
    given = batch()
    alone = RandDeformd(["image", "label"], "label", (8, 8, 8), prob=0.7)
    AugmentBatch(["image", "label"], [alone], seed=1)
    expected = [alone({k: given[k][b] for k in ("image", "label")}) for b in range(3)]
    found = AugmentBatch(["image", "label"], [alone], seed=1)(given)
    for b in range(3):
        assert torch.equal(found["image"][b], expected[b]["image"])
        assert torch.equal(found["label"][b], expected[b]["label"])


def test_batches_with_affines_become_plain():
    given = {"image": MetaTensor(torch.rand(2, 1, 9, 9, 9)), "label": MetaTensor(torch.ones(2, 1, 9, 9, 9))}
    out = AugmentBatch(["image", "label", "absent"], transforms(), seed=0)(given)
    assert not isinstance(out["image"], MetaTensor)
    assert out["image"].shape == (2, 1, 8, 8, 8)


@pytest.mark.gpu
def test_on_a_gpu_the_same_is_chosen():
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    given = batch()
    quiet = transforms()[:4]
    here = AugmentBatch(["image", "label"], quiet, seed=2)(given)
    there = AugmentBatch(["image", "label"], quiet, seed=2)({k: given[k].cuda() for k in ("image", "label")})
    torch.testing.assert_close(there["image"].cpu(), here["image"], atol=1e-4, rtol=0)
    assert (there["label"].cpu() == here["label"]).float().mean() > 0.999
