"""Fusion against a walk over every voxel, against SimpleITK, and by what any such estimate keeps."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medseg.training.plan.fusion import (
    SILENT,
    disagreement,
    fuse,
    patterns_of,
    pooled,
    sensitivity,
    specificity,
)


def raters(classes: int, wrong=(0.05, 0.1, 0.3), shape=(12, 12, 12), seed=0):
    """The truth and maps of annotators who are wrong so often, then saying anything."""
    rng = np.random.default_rng(seed)
    truth = np.zeros(shape, np.int64)
    truth[2:9, 3:9, 3:9] = 1
    if classes > 2:
        truth[8:11, 8:11, 2:7] = 2
    said = []
    for share in wrong:
        slips = rng.random(shape) < share
        one = truth.copy()
        one[slips] = rng.integers(0, classes, slips.sum())
        said.append(one)
    return truth, said


def by_voxel(maps, classes: int, rounds: int):
    """Dawid and Skene's equations (2.3) to (2.5), voxel by voxel, as they are printed."""
    items = np.stack([one.ravel() for one in maps], 1)
    belief = np.stack([(items == c).mean(1) for c in range(classes)], 1)
    for _ in range(rounds):
        prior = belief.mean(0)
        tables = np.zeros((items.shape[1], classes, classes))
        for r in range(items.shape[1]):
            for s in range(classes):
                tables[r, :, s] = belief[items[:, r] == s].sum(0)
            tables[r] /= tables[r].sum(1, keepdims=True)
        belief = np.tile(prior, (len(items), 1))
        for r in range(items.shape[1]):
            belief *= tables[r][:, items[:, r]].T
        belief /= belief.sum(1, keepdims=True)
    return belief, tables


@pytest.mark.parametrize("classes", [2, 3])
def test_dawid_and_skene_is_that_of_every_voxel(classes):
    truth, maps = raters(classes)
    patterns, index = patterns_of(maps)
    found = fuse(patterns, classes, "dawid-skene")
    belief, tables = by_voxel(maps, classes, len(found.likelihoods))
    assert found.posterior[index] == pytest.approx(belief, abs=1e-6)
    ours = found.confusion / found.confusion.sum(2, keepdims=True)
    assert ours == pytest.approx(tables, abs=1e-5)
    assert (found.classes[index].reshape(truth.shape) == truth).mean() > 0.985


def test_staple_is_simpleitks():
    _, maps = raters(2, shape=(16, 16, 16))
    patterns, index = patterns_of(maps)
    found = fuse(patterns, 2, "staple")
    theirs = sitk.STAPLEImageFilter()
    theirs.SetForegroundValue(1)
    weights = sitk.GetArrayFromImage(theirs.Execute([sitk.GetImageFromArray(one.astype(np.uint8)) for one in maps]))
    assert found.posterior[index, 1].reshape(weights.shape) == pytest.approx(weights, abs=1e-4)
    assert sensitivity(found.confusion)[:, 1] == pytest.approx(theirs.GetSensitivity(), abs=1e-4)
    assert specificity(found.confusion)[:, 1] == pytest.approx(theirs.GetSpecificity(), abs=1e-4)


def test_of_two_classes_both_models_agree_closely():
    _, maps = raters(2)
    patterns, _ = patterns_of(maps)
    a, b = (fuse(patterns, 2, method) for method in ("staple", "dawid-skene"))
    same = patterns.counts[a.classes == b.classes].sum() / patterns.counts.sum()
    assert same > 0.98  # the prior of the one is fixed
    assert sensitivity(a.confusion) == pytest.approx(sensitivity(b.confusion), abs=0.05)


def test_two_that_disagree_name_no_third_class():
    a, b = np.array([1, 1, 2, 2, 0, 0]), np.array([1, 2, 1, 2, 0, 0])
    patterns, index = patterns_of([a, b])
    for method in ("mean", "staple", "dawid-skene"):
        found = fuse(patterns, 3, method).classes[index]
        assert (found[[0, 3, 4, 5]] == [1, 2, 0, 0]).all()
        assert set(found) <= {0, 1, 2}


def test_the_mean_is_a_share_and_equals_go_to_the_lowest():
    patterns, index = patterns_of([np.array([0, 1, 2]), np.array([1, 1, 1]), np.array([2, 1, SILENT])])
    found = fuse(patterns, 3, "mean")
    assert found.posterior[index] == pytest.approx(np.array([[1, 1, 1], [0, 3, 0], [0, 1.5, 1.5]]) / 3)
    assert (found.classes[index] == [0, 1, 1]).all()


def test_a_reliable_annotator_outvotes_two_that_are_not():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, 20000)
    maps = [np.where(rng.random(truth.shape) < wrong, 1 - truth, truth) for wrong in (0.35, 0.35, 0.02)]
    patterns, index = patterns_of(maps)
    right = {method: (fuse(patterns, 2, method).classes[index] == truth).mean() for method in ("mean", "dawid-skene")}
    assert right["mean"] < 0.89
    assert right["dawid-skene"] > 0.97
    assert sensitivity(fuse(patterns, 2, "dawid-skene").confusion)[:, 1] == pytest.approx([0.65, 0.65, 0.98], abs=0.02)


def test_who_left_a_case_out_is_judged_by_the_others():
    _, maps = raters(2)
    both, _ = patterns_of(maps)
    two, _ = patterns_of([maps[0], maps[1], None])
    found = fuse(pooled([both, two]), 2, "dawid-skene")
    assert found.confusion[2].sum() == pytest.approx(maps[0].size)
    assert found.confusion[0].sum() == pytest.approx(2 * maps[0].size)
    nobody, index = patterns_of([np.array([SILENT, 1]), np.array([SILENT, 1])])
    for method in ("mean", "staple", "dawid-skene"):
        assert (fuse(nobody, 2, method).classes[index] == [SILENT, 1]).all()


def test_disagreement_counts_what_somebody_labelled():
    patterns, _ = patterns_of([np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, SILENT])])
    assert disagreement(patterns) == pytest.approx(1 / 3)
    assert disagreement(patterns_of([np.zeros(3, int), np.zeros(3, int)])[0]) == 0


@given(arrays(np.int64, (3, 40), elements=st.integers(-1, 2)))
def test_every_estimate_is_a_distribution_and_rounds_never_make_answers_less_likely(maps):
    patterns, index = patterns_of(list(maps))
    assert patterns.counts.sum() == 40
    assert (maps == patterns.answers[index].T).all()
    spoken = (patterns.answers != SILENT).any(1)
    for method in ("mean", "staple", "dawid-skene"):
        found = fuse(patterns, 3, method)
        assert found.posterior[spoken].sum(1) == pytest.approx(1)
        assert not found.posterior[~spoken].any()
        if method == "dawid-skene":
            assert (np.diff(found.likelihoods) >= -1e-6).all()
        alike = (patterns.answers == patterns.answers[:, :1]).all(1) & spoken
        if method == "mean":
            assert (found.classes[alike] == patterns.answers[alike, 0]).all()


def test_another_method_is_refused():
    with pytest.raises(ValueError, match="no way 'vote'"):
        fuse(patterns_of([np.zeros(2, int)])[0], 2, "vote")
