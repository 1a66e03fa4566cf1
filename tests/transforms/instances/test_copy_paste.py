"""Copy-paste: ids stay unique, flags and classes go along, nothing leaves the image, one seed gives one result."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor

from medseg.boxes.convention import boxes_of_instances
from medseg.errors import UsageError
from medseg.transforms import CopyPasted
from medseg.transforms.instances import BOX_ONLY, IGNORE, STUFF


def case(seed: int = 0, shape=(24, 24, 24), flags=(0, 0, 0, 0)) -> dict:
    """Three instances: one apart, one that touches the border, one more; brightness 1, 2, 3."""
    label = torch.zeros(1, *shape, dtype=torch.int16)
    label[0, 10:14, 10:13, 10:12], label[0, :3, 4:7, 4:7], label[0, 18:20, 18:22, 3:6] = 1, 2, 3
    noise = torch.rand(1, *shape, generator=torch.Generator().manual_seed(seed)) / 100
    return {
        "image": MetaTensor(label.float() + noise, affine=torch.diag(torch.tensor([1.0, 1, 1, 1]))),
        "label": MetaTensor(label), "classes": torch.tensor([-1, 0, 1, 2]), "flags": torch.tensor(flags).byte(),
    }  # fmt: skip


def transform(**how) -> CopyPasted:
    return CopyPasted("image", "label", **({"prob": 1.0} | how))


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), soft=st.sampled_from([0.0, 1.5, 4.0]), bank=st.sampled_from([0, 8]))
def test_copies_are_whole_and_new_and_the_old_stay(seed, soft, bank):
    paste = transform(soft_mm=soft, bank=bank).set_random_state(seed)
    for n in range(3):
        given_, out = case(n), paste(case(n))
        count = len(out["classes"]) - 1
        assert len(out["flags"]) == count + 1
        ids, boxes = boxes_of_instances(out["label"].as_tensor()[0])
        assert ids.tolist() == list(range(1, count + 1))
        for old in (1, 2, 3):
            assert torch.equal(out["label"] == old, given_["label"] == old)
            assert torch.equal(out["image"][out["label"] == old], given_["image"][given_["label"] == old])
        assert out["classes"][:4].tolist() == [-1, 0, 1, 2]
        for number in range(4, count + 1):
            kind = int(out["classes"][number])
            assert kind in (0, 2), "what touches the border is not copied"
            here = out["label"] == number
            assert here.sum() == {0: 24, 2: 24}[kind]
            wanted = {0: [4, 3, 2], 2: [2, 4, 3]}[kind]
            assert (boxes[number - 1, 3:] - boxes[number - 1, :3]).tolist() == wanted
            assert (out["image"][here] - kind - 1).abs().max() < 0.011, "its own brightness goes along"
        far = (out["label"] == 0) & (given_["label"] == 0) & (out["image"] == given_["image"])
        assert far.float().mean() > 0.5


def test_copies_come_from_earlier_cases_too():
    paste = transform(most=4).set_random_state(0)
    paste(case())
    empty = case()
    empty["label"] = MetaTensor(torch.zeros(1, 24, 24, 24, dtype=torch.int16))
    empty |= {"classes": torch.tensor([-1]), "flags": torch.zeros(1, dtype=torch.uint8)}
    counts = [len(paste(empty)["classes"]) - 1 for _ in range(10)]
    assert max(counts) > 1
    alone = transform(bank=0).set_random_state(0)
    alone(case())
    assert len(alone(empty)["classes"]) == 1


def test_one_seed_gives_one_result_and_the_input_is_left_alone():
    paste, given_ = transform(), case()
    runs = []
    for _ in range(2):
        paste.set_random_state(5)
        runs.append([paste(given_) for _ in range(3)])
    for a, b in zip(*runs, strict=True):
        for key in ("image", "label", "classes", "flags"):
            assert torch.equal(torch.as_tensor(a[key]), torch.as_tensor(b[key]))
    assert any(len(out["classes"]) > 4 for out in runs[0])
    for key, value in case().items():
        assert torch.equal(torch.as_tensor(given_[key]), torch.as_tensor(value))


def test_boxes_and_regions_to_ignore_are_neither_copied_nor_covered():
    paste = transform(most_hidden=1.0, most=8).set_random_state(0)
    for _ in range(10):
        out = paste(case(flags=(0, 0, BOX_ONLY, IGNORE)))
        assert out["flags"][:4].tolist() == [0, 0, BOX_ONLY, IGNORE]
        assert not out["flags"][4:].any()
        assert set(out["classes"][4:].tolist()) <= {0}
        for kept in (2, 3):
            assert torch.equal(out["label"] == kept, case()["label"] == kept)


def test_others_may_be_covered_when_that_is_asked_for():
    small = {**case(shape=(24, 24, 24))}
    paste = transform(most_hidden=0.5, most=30, tries=50).set_random_state(1)
    out = [paste(small) for _ in range(20)]
    left = torch.tensor([[int((o["label"] == n).sum()) for n in (1, 3)] for o in out])
    assert (left < 24).any()
    full = transform(most_hidden=0.0, most=30, tries=50).set_random_state(1)
    assert all(int((full(small)["label"] == n).sum()) == 24 for _ in range(5) for n in (1, 3))


def test_with_probability_zero_nothing_changes():
    out = transform(prob=0.0).set_random_state(0)(case())
    assert torch.equal(out["label"], case()["label"])
    assert torch.equal(out["image"], case()["image"])


def test_a_copy_larger_than_the_image_is_left_out():
    paste = transform(most=1).set_random_state(0)
    paste(case())
    thin = {
        "image": torch.zeros(1, 1, 24, 24), "label": torch.zeros(1, 1, 24, 24, dtype=torch.int16),
        "classes": torch.tensor([-1]), "flags": torch.zeros(1, dtype=torch.uint8),
    }  # fmt: skip
    assert torch.equal(paste(thin)["label"], thin["label"])


def test_what_is_missing_is_named():
    with pytest.raises(UsageError, match=r"(?s)MS-U155.*'classes' is absent.*InstancesFromLabeld"):
        transform()({k: v for k, v in case().items() if k != "classes"})
    with pytest.raises(UsageError, match="MS-U155"):
        transform()({**case(), "label": torch.zeros(1, 4, 4, 4)})
    with pytest.raises(UsageError, match="one image"):
        CopyPasted(["a", "b"], "label")  # type: ignore[arg-type]


def test_stuff_is_background_to_copies():
    """With stuff in place of the background the same copies fall on the same places, and lie over it."""
    for seed in range(6):
        plain, over = case(seed), case(seed)
        over["label"] = MetaTensor(torch.where(plain["label"] == 0, 4, plain["label"]))
        over |= {"classes": torch.tensor([-1, 0, 1, 2, 3]), "flags": torch.tensor([0, 0, 0, 0, STUFF]).byte()}
        wanted = transform(most=6).set_random_state(seed)(plain)
        out = transform(most=6).set_random_state(seed)(over)
        assert torch.equal(out["image"].as_tensor(), wanted["image"].as_tensor()), "borders are as soft over stuff"
        numbers = torch.tensor([4, 1, 2, 3, *range(5, 20)])
        expected = numbers[wanted["label"].as_tensor().long()]
        assert torch.equal(out["label"].as_tensor().long(), expected)
        assert out["label"].dtype == over["label"].dtype
        assert out["classes"][5:].tolist() == wanted["classes"][4:].tolist()
        assert not (out["flags"][5:] & STUFF).any(), "stuff is not copied"
    assert len(out["classes"]) > 5
    assert (over["label"] == 4).sum() == (plain["label"] == 0).sum(), "what came in stays as it was"
