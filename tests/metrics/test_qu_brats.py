import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.metrics.qu_brats import qu_brats


def case(shape=(6, 7, 8), seed=0, dtype=np.float32):
    random = np.random.default_rng(seed)
    masks = [random.random(shape) < share for share in (0.3, 0.3, 0.7)]
    return *masks[:2], np.round(100 * random.random(shape)).astype(dtype), masks[2]


def by_the_definition(pred, ref, uncertainty, brain, thresholds):
    """The challenge's way: a masked copy of the volumes for each threshold."""
    rows = []
    for threshold in thresholds:
        certain = uncertainty <= threshold
        p, r = pred & certain, ref & certain
        dice = 2 * (p & r).sum() / (p.sum() + r.sum()) if (p | r).any() else 1.0
        tp, tn = pred & ref & brain, ~pred & ~ref & brain
        rows.append((dice, *((t & ~certain).sum() / max(t.sum(), 1) for t in (tp, tn))))
    return np.array(rows).T


@given(st.integers(0, 99), st.sampled_from([1, 4, 40, 100]))
def test_equals_the_definition(seed, steps):
    pred, ref, uncertainty, brain = case(seed=seed)
    got = qu_brats(pred, ref, uncertainty, brain=brain, steps=steps)
    want = by_the_definition(pred, ref, uncertainty, brain, got.thresholds)
    np.testing.assert_allclose([got.dice, got.ftp, got.ftn], want)
    areas = [np.sum((curve[1:] + curve[:-1]) / 2) / steps for curve in want]
    assert [got.dice_auc, got.ftp_auc, got.ftn_auc] == pytest.approx(areas)
    assert got.score == pytest.approx((areas[0] + 1 - areas[1] + 1 - areas[2]) / 3)


def test_an_uncertainty_that_marks_exactly_the_errors_is_perfect():
    pred, ref, _, _ = case()
    got = qu_brats(pred, ref, 100.0 * (pred != ref))
    assert got.dice[:-1].tolist() == [1] * 40
    assert got.dice[-1] < 1
    assert (got.ftp_auc, got.ftn_auc) == (0, 0)
    assert got.score == pytest.approx((2 + got.dice_auc) / 3)


def test_a_certain_map_scores_its_dice():
    pred, ref, _, _ = case()
    got = qu_brats(pred, ref, np.zeros(pred.shape))
    dice = 2 * (pred & ref).sum() / (pred.sum() + ref.sum())
    assert got.dice == pytest.approx([dice] * 41)
    assert got.score == pytest.approx((dice + 2) / 3)


def test_nothing_to_segment():
    none = np.zeros((2, 3, 4), bool)
    got = qu_brats(none, none, np.full(none.shape, 50.0))
    assert (got.dice_auc, got.ftp_auc) == (1, 0)
    assert got.ftn_auc == pytest.approx(0.4875)  # gone below 50, back at 50: 19 whole steps and a half of 40


def test_a_piece_at_a_time_changes_nothing(monkeypatch):
    pred, ref, uncertainty, brain = case()
    want = qu_brats(pred, ref, uncertainty, brain=brain).score
    monkeypatch.setattr("medseg.metrics.pieces.PIECE", 60)
    assert qu_brats(pred, np.asfortranarray(ref), np.asfortranarray(uncertainty), brain=brain).score == want


def test_wrong_arguments_are_named():
    pred, ref, uncertainty, _ = case()
    with pytest.raises(TypeError, match="ref is a bool mask of one structure, got int64"):
        qu_brats(pred, ref.astype(int), uncertainty)
    with pytest.raises(ValueError, match=r"have one shape, got \{'uncertainty': \(5, 7, 8\)"):
        qu_brats(pred, ref, uncertainty[1:])
    with pytest.raises(ValueError, match="some are NaN or outside"):
        qu_brats(pred, ref, uncertainty + 1)
    with pytest.raises(ValueError, match="some are NaN or outside"):
        qu_brats(pred, ref, np.where(uncertainty == uncertainty.max(), np.nan, uncertainty))
    with pytest.raises(ValueError, match="got steps=0"):
        qu_brats(pred, ref, uncertainty, steps=0)
