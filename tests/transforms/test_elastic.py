"""Deformation of patches: cutting is exact, nothing folds, labels stay the labels they were."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor

from medseg.transforms import RandDeformd, elastic
from medseg.transforms.spline import jacobian_determinant


@given(shape=st.tuples(*[st.integers(3, 14)] * 3), size=st.tuples(*[st.integers(3, 14)] * 3), seed=st.integers(0, 99))
def test_without_deformation_a_patch_is_cut_or_padded_exactly(shape, size, seed):
    cut = RandDeformd(["image", "label"], "label", size, prob=0.0)
    cut.set_random_state(seed)
    image = torch.arange(1.0, 1 + np.prod(shape)).reshape(1, *shape)
    out = cut({"image": image, "label": (image % 5)})
    inside = out["image"] > 0
    assert inside.sum() == np.prod(np.minimum(shape, size))
    assert torch.equal(out["image"][inside] % 5, out["label"][inside])
    assert not out["label"][~inside].any()


def test_one_seed_gives_one_patch_and_spacing_keeps_rotations_rigid():
    cut = RandDeformd("image", (), (8, 8, 8), prob=1.0, elastic_mm=0.0, scale=(1.0, 1.0))
    image = MetaTensor(torch.randn(1, 10, 10, 10), affine=torch.diag(torch.tensor([1.0, 1.0, 4.0, 1.0])))
    a, b = (cut.set_random_state(3)({"image": image})["image"] for _ in range(2))
    assert torch.equal(a, b)
    where = cut.set_random_state(3).choose((10, 10, 10), np.array([1.0, 1.0, 4.0])).coordinates.numpy()
    step = np.diff(where, axis=2)[4, 4, 3] * [1, 1, 4]  # one step along the thick axis stays 4 mm long
    assert np.linalg.norm(step) == pytest.approx(4.0, abs=1e-3)


@pytest.mark.parametrize(("patch", "spacing"), [((20, 24, 28), (1, 1, 1)), ((40, 16, 32), (1, 3, 2))])
def test_no_draw_of_the_default_strength_folds(patch, spacing):
    cut = RandDeformd("image", (), patch, prob=1.0).set_random_state(0)
    least = [float(jacobian_determinant(cut.choose((48, 48, 48), np.array(spacing))).min()) for _ in range(500)]
    assert min(least) > 0
    assert max(least) > 0.9  # some draws are gentle


def test_what_would_fold_is_weakened(monkeypatch):
    cut = RandDeformd("image", (), (16, 16, 16), prob=1.0, elastic_mm=30.0)
    with monkeypatch.context() as unguarded:
        unguarded.setattr(elastic, "MOST_STRAIN", np.inf)
        folded = [float(jacobian_determinant(_draw(cut, seed)).min()) for seed in range(20)]
    kept = [float(jacobian_determinant(_draw(cut, seed)).min()) for seed in range(20)]
    assert min(folded) < 0
    assert min(kept) > 0


def test_the_guard_leaves_gentle_draws_as_they_are(monkeypatch):
    cut = RandDeformd("image", (), (40, 40, 40), prob=1.0)
    guarded = [_draw(cut, seed).control for seed in range(20)]
    monkeypatch.setattr(elastic, "MOST_STRAIN", np.inf)
    free = [_draw(cut, seed).control for seed in range(20)]
    assert sum(torch.equal(a, b) for a, b in zip(guarded, free, strict=True)) > 15


def _draw(cut: RandDeformd, seed: int):
    return cut.set_random_state(seed).choose((48, 48, 48), np.ones(3))


@given(seed=st.integers(0, 9999), dtype=st.sampled_from([torch.uint8, torch.int32, torch.float32]))
def test_no_label_appears_that_was_not_there(seed, dtype):
    values = torch.tensor([0, 3, 7, 200])
    labels = values[torch.randint(0, 4, (1, 9, 9, 9), generator=torch.Generator().manual_seed(seed))].to(dtype)
    cut = RandDeformd("label", "label", (12, 8, 10), prob=1.0, elastic_mm=4.0).set_random_state(seed)
    assert set(cut({"label": labels})["label"].unique().tolist()) <= set(values.tolist())


def test_labels_that_are_whole_before_are_whole_after():
    labels = torch.zeros(1, 40, 40, 40, dtype=torch.uint8)
    for value in range(1, 7):
        at = slice(6 * value - 4, 6 * value)
        labels[0, at, 8:32, 8:32] = value
    cut = RandDeformd("label", "label", (40, 40, 40), prob=1.0, scale=(0.9, 1.0), elastic_mm=1.0)
    found = [cut.set_random_state(seed)({"label": labels})["label"].unique().tolist() for seed in range(20)]
    assert all(values == list(range(7)) for values in found)


@pytest.mark.parametrize("part", ["rotate", "scale", "elastic"])
def test_parts_come_up_alone(part):
    probs = {f"{name}_prob": float(name == part) for name in ("rotate", "scale", "elastic")}
    cut = RandDeformd("x", (), (12, 12, 12), prob=1.0, **probs).set_random_state(1)
    deformation = cut.choose((20, 20, 20), np.ones(3))
    assert deformation.start is None
    rise = np.gradient(deformation.coordinates.numpy(), axis=(0, 1, 2))
    matrices = np.stack(rise, -1).reshape(-1, 3, 3)
    linear = np.allclose(matrices, matrices[0], atol=1e-4)
    assert linear == (part != "elastic")
    if part == "rotate":
        np.testing.assert_allclose(matrices[0] @ matrices[0].T, np.eye(3), atol=1e-4)
    if part == "scale":
        np.testing.assert_allclose(matrices[0], np.eye(3) * matrices[0, 0, 0], atol=1e-4)


def test_each_part_comes_up_as_often_as_said():
    cut = RandDeformd("x", (), (8, 8, 8), prob=1.0, rotate_prob=0.2, scale_prob=0.2, elastic_prob=0.0)
    cut.set_random_state(0)
    still = sum(cut.choose((9, 9, 9), np.ones(3)).start is not None for _ in range(1000))
    assert still / 1000 == pytest.approx(0.64, abs=0.05)


def test_images_and_labels_of_a_case_move_alike():
    grid = torch.stack(torch.meshgrid(*[torch.arange(20.0)] * 3, indexing="ij"))
    blocks = (grid[:1] >= 10).float()
    cut = RandDeformd(["a", "b", "c", "d"], ["c", "d"], (16, 16, 16), prob=1.0).set_random_state(5)
    out = cut({"a": blocks, "b": grid, "c": blocks.to(torch.uint8), "d": blocks.to(torch.int64)})
    assert out["b"].shape == (3, 16, 16, 16)
    clear = (out["a"] - 0.5).abs() > 1e-3
    for key in ("c", "d"):
        assert torch.equal(out[key][clear] > 0, out["a"][clear] > 0.5)


@pytest.mark.parametrize("together", [False, True])
def test_a_batch_is_deformed_as_its_samples_are(monkeypatch, together):
    samples = [{"image": torch.rand(2, 14, 13, 12), "label": torch.randint(0, 3, (1, 14, 13, 12))} for _ in range(4)]
    cut = RandDeformd(["image", "label"], "label", (10, 10, 10), prob=0.7)
    cut.set_random_state(2)
    expected = [cut(sample) for sample in samples]
    if together:  # what a GPU would do
        monkeypatch.setattr(elastic, "_on_cpu", lambda value: False)
    found = cut.set_random_state(2).on_batch(samples)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a["image"], b["image"], atol=1e-4, rtol=0)
        assert (a["label"] == b["label"]).float().mean() > 0.999
        assert a["label"].dtype == b["label"].dtype
