import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.metrics.error_detection import error_detection, pooled_error_detection
from medseg.metrics.selective import risk_coverage


def case(n=200, seed=0, levels=20, share=0.2, dtype=np.float32):
    random = np.random.default_rng(seed)
    wrong = random.random(n) < share
    return (np.round(levels * (random.random(n) + 0.3 * wrong)) / levels).astype(dtype), wrong


def auroc(uncertainty, wrong):
    """Every wrong voxel against every right one."""
    pairs = uncertainty[wrong][:, None] - uncertainty[~wrong][None]
    return (np.sign(pairs) + 1).mean() / 2


def average_precision(uncertainty, wrong):
    """Each threshold from above: precision times the gain in recall."""
    total, before = 0.0, 0.0
    for threshold in sorted(set(uncertainty.tolist()), reverse=True):
        taken = uncertainty >= threshold
        recall = wrong[taken].sum() / wrong.sum()
        total += (recall - before) * wrong[taken].mean()
        before = recall
    return total


@given(st.integers(0, 999), st.sampled_from([1, 3, 20, 10**6]), st.sampled_from([0.02, 0.3, 0.9]))
def test_equals_all_pairs_and_all_thresholds(seed, levels, share):
    uncertainty, wrong = case(seed=seed, levels=levels, share=share)
    if not 0 < wrong.sum() < len(wrong):
        return
    got = error_detection(uncertainty, wrong)
    assert got.auroc == pytest.approx(auroc(uncertainty, wrong), abs=1e-12)
    assert got.auprc == pytest.approx(average_precision(uncertainty, wrong), abs=1e-12)


@given(st.integers(0, 999), st.sampled_from([1, 3, 20, 10**6]), st.sampled_from([0.0, 0.02, 0.3, 1.0]))
def test_sparsification_equals_that_of_sorted_voxels(seed, levels, share):
    uncertainty, wrong = case(seed=seed, levels=levels, share=share)
    got, want = error_detection(uncertainty, wrong), risk_coverage(wrong, uncertainty)
    assert got.aurc == pytest.approx(want.aurc, abs=1e-12)
    assert got.e_aurc == pytest.approx(want.e_aurc, abs=1e-12)
    assert got.ause == pytest.approx(want.ause, abs=1e-10, nan_ok=True)


def test_closed_forms_of_a_large_map():
    """Error rate e = 0.1: oracle AURC e + (1 - e) ln (1 - e) = 0.0051755, by chance e; AUSE by chance 0.94824."""
    wrong = np.zeros((100, 100, 100), bool)
    wrong.ravel()[:100_000] = True
    perfect, constant = error_detection(wrong.astype(float), wrong), error_detection(np.ones(wrong.shape), wrong)
    assert (perfect.auroc, perfect.auprc) == (1, 1)
    assert perfect.aurc == pytest.approx(0.0051755, abs=1e-6)
    assert perfect.ause == pytest.approx(0, abs=1e-9)
    assert (constant.auroc, constant.auprc) == (0.5, pytest.approx(0.1))
    assert constant.aurc == pytest.approx(0.1)
    assert constant.ause == pytest.approx(0.94824, abs=1e-5)
    inverse = error_detection(-wrong.astype(float), wrong)
    assert inverse.auroc == 0
    assert inverse.auprc == pytest.approx(0.1)
    random = error_detection(np.random.default_rng(0).random(wrong.shape), wrong)
    assert random.auroc == pytest.approx(0.5, abs=0.005)
    assert random.ause == pytest.approx(0.94824, abs=0.01)


@given(st.integers(0, 999))
def test_a_monotone_transform_changes_nothing(seed):
    uncertainty, wrong = case(seed=seed, dtype=np.float64)
    got, moved = error_detection(uncertainty, wrong), error_detection(np.exp(3 * uncertainty) - 7, wrong)
    assert (got.auroc, got.auprc, got.aurc) == (moved.auroc, moved.auprc, moved.aurc)


@given(st.integers(0, 999))
def test_turning_the_map_round_mirrors_auroc(seed):
    uncertainty, wrong = case(seed=seed)
    assert error_detection(-uncertainty, wrong).auroc == pytest.approx(1 - error_detection(uncertainty, wrong).auroc)


@given(st.integers(0, 999))
def test_the_order_of_voxels_does_not_matter(seed):
    uncertainty, wrong = case(seed=seed)
    order = np.random.default_rng(seed).permutation(len(wrong))
    got, moved = error_detection(uncertainty, wrong), error_detection(uncertainty[order], wrong[order])
    assert (got.auroc, got.auprc, got.aurc) == (moved.auroc, moved.auprc, moved.aurc)


@given(st.integers(0, 999), st.integers(1, 4))
def test_pooled_cases_are_one_volume(seed, n):
    cases = [(*case(50 + 10 * k, seed + k), None) for k in range(n)]
    pooled = pooled_error_detection(cases)
    together = error_detection(*(np.concatenate([c[k] for c in cases]) for k in range(2)))
    for name in ("values", "wrong", "tied", "below", "n_right"):
        np.testing.assert_array_equal(getattr(pooled, name), getattr(together, name))


def test_a_piece_at_a_time_changes_nothing(monkeypatch):
    uncertainty, wrong = (a.reshape(6, 5, 8) for a in case(240))
    region = np.random.default_rng(3).random(wrong.shape) < 0.5
    want = error_detection(uncertainty[region], wrong[region])
    monkeypatch.setattr("medseg.metrics.pieces.PIECE", 50)
    for layout in (np.ascontiguousarray, np.asfortranarray):
        got = error_detection(layout(uncertainty), wrong, region)
        assert (got.auroc, got.auprc, got.aurc, got.n_wrong) == (want.auroc, want.auprc, want.aurc, want.n_wrong)


def test_undefined_is_nan_and_not_a_score():
    values = np.arange(4.0)
    right, wrong, none = (
        error_detection(values, np.zeros(4, bool)),
        error_detection(values, np.ones(4, bool)),
        error_detection(values, np.ones(4, bool), np.zeros(4, bool)),
    )
    assert np.isnan(right.auroc)
    assert np.isnan(right.auprc)
    assert np.isnan(right.ause)
    assert right.aurc == 0
    assert np.isnan(wrong.auroc)
    assert wrong.auprc == 1
    assert wrong.aurc == 1
    assert wrong.ause == pytest.approx(0)
    assert all(np.isnan(x) for x in (none.auroc, none.auprc, none.aurc, none.ause, none.error_rate))
    assert pooled_error_detection([]).n_wrong == 0


def test_wrong_arguments_are_named():
    uncertainty, wrong = case()
    with pytest.raises(ValueError, match=r"have one shape, got \{'uncertainty': \(199,\), 'wrong': \(200,\)"):
        error_detection(uncertainty[1:], wrong)
    with pytest.raises(TypeError, match="wrong is bool, got uint8"):
        error_detection(uncertainty, wrong.astype(np.uint8))
    with pytest.raises(TypeError, match="region is bool, got int64"):
        error_detection(uncertainty, wrong, np.ones(200, int))
    uncertainty[3] = np.nan
    with pytest.raises(ValueError, match="the region holds NaN"):
        error_detection(uncertainty, wrong)
    error_detection(uncertainty, wrong, np.arange(200) != 3)
