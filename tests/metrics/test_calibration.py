import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.metrics import CalibrationErrorMetric

from medseg.metrics.calibration import EPSILON, calibration, calibration_by_region
from medseg.metrics.regions import boundary_band, foreground, near

SHAPE = (9, 10, 11)


def softmax(n_classes=4, shape=SHAPE, seed=0, sharp=2.0, dtype=np.float32):
    z = sharp * np.random.default_rng(seed).standard_normal((n_classes, *shape))
    p = np.exp(z) / np.exp(z).sum(axis=0)
    return (p / p.sum(axis=0)).astype(dtype)


def classes(n_classes=4, shape=SHAPE, seed=0):
    return np.random.default_rng(seed + 1).integers(0, n_classes, shape).astype(np.uint8)


def brute(confidence, true, bins):
    """(count, hits, sum) of each bin (left, right], one voxel after the other."""
    out = np.zeros((3, bins))
    edges = np.arange(1, bins + 1) / bins
    for c, t in zip(confidence.ravel().astype(np.float64), true.ravel(), strict=True):
        out[:, min(int((c > edges).sum()), bins - 1)] += (1, t, c)
    return out


def same(reliability, confidence, true, bins):
    count, hits, total = brute(confidence, true, bins)
    np.testing.assert_array_equal(reliability.count, count)
    np.testing.assert_array_equal(reliability.hits, hits)
    np.testing.assert_allclose(reliability.confidence_sum, total, rtol=1e-12)


@pytest.mark.parametrize("bins", [1, 15, 20])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_counting_voxel_by_voxel(bins, dtype):
    p, ref, region = softmax(dtype=dtype), classes(), classes(2, seed=5) > 0
    got = calibration(p, ref, region=region, bins=bins)
    inside, true = p[:, region], ref[region]
    same(got.top, inside.max(axis=0), inside.argmax(axis=0) == true, bins)
    for c, reliability in enumerate(got.classes):
        same(reliability, inside[c], true == c, bins)
    y = np.eye(len(p))[:, true]
    assert got.n == region.sum()
    assert got.brier == pytest.approx(((inside - y) ** 2).sum(axis=0).mean(), rel=1e-6)
    assert got.nll == pytest.approx(-np.log(inside[true, np.arange(len(true))]).mean(), rel=1e-6)


@pytest.mark.parametrize("reduction", ["expected", "average", "maximum"])
@pytest.mark.parametrize("bins", [10, 20])
def test_classes_equal_monai(reduction, bins):
    p, ref = softmax(seed=3), classes(seed=3)
    metric = CalibrationErrorMetric(num_bins=bins, calibration_reduction=reduction, metric_reduction="none")
    one_hot = np.eye(len(p), dtype=np.float32)[ref].transpose(3, 0, 1, 2)
    metric(y_pred=torch.from_numpy(p[None]), y=torch.from_numpy(one_hot[None]))
    name = {"expected": "ece", "average": "ace", "maximum": "mce"}[reduction]
    got = [getattr(c, name) for c in calibration(p, ref, bins=bins).classes]
    np.testing.assert_allclose(got, metric.aggregate().numpy()[0], rtol=1e-4)


def test_the_binary_map_equals_monai():
    p, ref = softmax(2, seed=4)[1], classes(2, seed=4)
    metric = CalibrationErrorMetric(metric_reduction="none")
    metric(y_pred=torch.from_numpy(p[None, None]), y=torch.from_numpy(ref[None, None].astype(np.float32)))
    assert calibration(p, ref).classes[0].ece == pytest.approx(metric.aggregate().item(), rel=1e-4)


def test_true_probabilities_are_calibrated():
    """y ~ Bernoulli(p), p ~ U(0, 1): ECE -> 0, Brier = 1/6, NLL = 1/2."""
    random = np.random.default_rng(0)
    p = random.random((100, 100, 100))
    got = calibration(p, random.random(p.shape) < p)
    assert got.top.ece < 0.002
    assert got.classes[0].ece < 0.002
    assert got.brier == pytest.approx(1 / 6, abs=1e-3)
    assert got.nll == pytest.approx(1 / 2, abs=2e-3)


@pytest.mark.parametrize("p", [0.9, 0.1])
def test_a_constant_that_is_too_sure(p):
    """0.9 where 0.7 come true: every calibration error 0.2, Brier 0.7 * 0.01 + 0.3 * 0.81 = 0.25."""
    ref = np.zeros((10, 10, 10), bool)
    ref.ravel()[:700] = True
    ref = ref if p > 0.5 else ~ref
    got = calibration(np.full(ref.shape, p), ref)
    for reliability in (got.top, *got.classes):
        assert [reliability.ece, reliability.ace, reliability.mce] == pytest.approx([0.2] * 3)
    assert got.brier == pytest.approx(0.25)
    assert got.nll == pytest.approx(-0.7 * np.log(0.9) - 0.3 * np.log(0.1))


def test_two_classes_are_the_binary_map_with_twice_the_brier_score():
    p, ref = softmax(2, dtype=np.float64), classes(2)
    two, one = calibration(p, ref), calibration(p[1], ref)
    assert two.brier == pytest.approx(2 * one.brier)
    assert (two.nll, two.top.ece, two.classes[1].ece) == pytest.approx((one.nll, one.top.ece, one.classes[0].ece))
    assert calibration(p[1], ref * 7).nll == one.nll, "any value above 0 is foreground"


def test_certainty_that_is_wrong_costs_what_epsilon_says():
    ref = np.array([0, 0, 1, 1], np.uint8).reshape(4, 1, 1)
    p = np.array([0, 1, 1, 1], np.float32).reshape(4, 1, 1)
    got = calibration(p, ref)
    assert got.nll == pytest.approx(-np.log(EPSILON) / 4)
    assert (got.brier, got.top.ece, got.top.mce) == (0.25, 0.25, 0.25)
    assert got.top.count[-1] == 4
    assert got.classes[0].count[0] == 1


def test_edges_belong_to_the_bin_below():
    p = (np.arange(21) / 20).astype(np.float32).reshape(21, 1, 1)
    count = calibration(p, np.ones(p.shape, np.uint8)).classes[0].count
    assert count.tolist() == [2] + [1] * 19


def test_an_empty_region_measures_nothing():
    got = calibration(softmax(), classes(), region=np.zeros(SHAPE, bool))
    assert got.n == 0
    assert all(np.isnan(value) for _, value in got.rows())
    assert np.isnan(got.top.confidence).all()


@given(st.integers(0, 99), st.integers(1, 3))
def test_cases_added_up_are_one_volume(seed, n_cases):
    p = [softmax(3, (2, 3, 5), seed + 7 * n) for n in range(n_cases)]
    ref = [classes(3, (2, 3, 5), seed + 7 * n) for n in range(n_cases)]
    total = sum(calibration(*pair, bins=7) for pair in zip(p, ref, strict=True))
    pooled = calibration(np.concatenate(p, axis=1), np.concatenate(ref), bins=7)
    assert dict(total.rows()) == pytest.approx(dict(pooled.rows()))
    np.testing.assert_array_equal(total.top.count, pooled.top.count)
    assert sum([total.top]).n == total.n


@given(st.integers(0, 99))
def test_the_order_of_voxels_does_not_matter(seed):
    p, ref = softmax(3, (3, 4, 5), seed), classes(3, (3, 4, 5), seed)
    order = np.random.default_rng(seed).permutation(ref.size)
    moved = calibration(p.reshape(3, -1)[:, order].reshape(p.shape), ref.ravel()[order].reshape(ref.shape))
    assert dict(moved.rows()) == pytest.approx(dict(calibration(p, ref).rows()))


@given(st.integers(0, 99), st.integers(1, 20))
def test_errors_are_ordered_and_bounded(seed, bins):
    got = calibration(softmax(3, (3, 4, 5), seed), classes(3, (3, 4, 5), seed), bins=bins)
    for reliability in (got.top, *got.classes):
        assert 0 <= reliability.ece <= reliability.mce + 1e-12 <= 1 + 1e-12
        assert reliability.ace <= reliability.mce + 1e-12
    assert 0 <= got.brier <= 2
    assert got.nll >= 0


def test_memory_order_and_threads_change_nothing():
    p, ref, region = softmax(), classes(), classes(2, seed=5) > 0
    want = list(calibration(p, ref, region=region, threads=1).rows())
    assert list(calibration(p, ref, region=region, threads=3).rows()) == want
    turned = calibration(np.asfortranarray(p), np.asfortranarray(ref), region=region)
    assert dict(turned.rows()) == pytest.approx(dict(want))
    last = np.ascontiguousarray(p.transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2)  # channels last
    assert list(calibration(last, ref, region=region).rows()) == want


def test_half_precision_is_accepted():
    p, ref = softmax(), classes()
    assert calibration(p.astype(np.float16), ref).brier == pytest.approx(calibration(p, ref).brier, rel=1e-3)


def test_regions_are_those_named():
    p = softmax(3)
    pred, ref = p.argmax(axis=0), classes(3) * (classes(9) == 0)
    got = calibration_by_region(p, pred, ref, spacing_mm=(1, 1, 2), band_mm=1.5)
    band = boundary_band(pred, ref, 1.5, spacing_mm=(1, 1, 2))
    around = near(pred, pred, 1.5, spacing_mm=(1, 1, 2))
    masks = {"whole": None, "foreground": foreground(pred, ref), "boundary": band, "prediction": around}
    assert {name: list(c.rows()) for name, c in got.items()} == {
        name: list(calibration(p, ref, region=mask).rows()) for name, mask in masks.items()
    }


def test_wrong_arguments_are_named():
    p, ref = softmax(), classes()
    with pytest.raises(ValueError, match=r"got \(4, 9, 10, 11\), \(9, 10, 10\) and \(9, 10, 10\)"):
        calibration(p, ref[..., 1:])
    with pytest.raises(ValueError, match=r"in an \(I, J, K\) region, got \(9, 10, 11\), .* and \(1, 10, 11\)"):
        calibration(p[0], ref, region=np.ones((1, 10, 11), bool))
    with pytest.raises(ValueError, match="one channel alone is no distribution"):
        calibration(p[:1], ref)
    with pytest.raises(ValueError, match="at least one bin, got bins=0"):
        calibration(p, ref, bins=0)
    with pytest.raises(TypeError, match="probabilities holds floats, got int64"):
        calibration(np.zeros(p.shape, int), ref)
    with pytest.raises(TypeError, match="ref holds integers or bool, got float32"):
        calibration(p, ref.astype(np.float32))
    with pytest.raises(TypeError, match="region holds bool, got uint8"):
        calibration(p, ref, region=ref)
    with pytest.raises(ValueError, match="4 channels, 0 to 3: 1 voxels have another one"):
        calibration(p, np.where(np.arange(ref.size).reshape(SHAPE) == 5, 4, ref))


def test_what_is_no_probability_is_refused():
    p, ref = softmax(), classes()
    with pytest.raises(ValueError, match="990 voxels hold NaN or values outside"):
        calibration(np.log(p), ref)
    with pytest.raises(ValueError, match="those of 990 voxels do not"):
        calibration(p / 2, ref)
    p[0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="1 voxels hold NaN"):
        calibration(p, ref)
    region = np.ones(SHAPE, bool)
    region[0, 0, 0] = False
    assert calibration(p, ref, region=region).n == region.sum()


def test_what_does_not_belong_together_is_not_added():
    p, ref = softmax(), classes()
    with pytest.raises(ValueError, match="got 20 and 10 bins"):
        calibration(p, ref) + calibration(p, ref, bins=10)
    with pytest.raises(ValueError, match="got 4 and 1 classes"):
        calibration(p, ref) + calibration(p[0], ref)
    with pytest.raises(TypeError):
        1 + calibration(p, ref)


def test_true_probabilities_are_calibrated_where_the_prediction_chooses_and_not_where_the_reference_does():
    rng = np.random.default_rng(0)
    hill = np.exp(-(np.linspace(-2, 2, 40)[:, None, None] ** 2 + np.linspace(-2, 2, 40)[None, :, None] ** 2))
    foreground_p = np.broadcast_to(0.9 * hill, (40, 40, 40))
    p = np.stack([1 - foreground_p, foreground_p])
    ref = (rng.random(foreground_p.shape) < foreground_p).astype(np.int64)
    pred = (foreground_p > 0.5).astype(np.int64)
    found = calibration_by_region(p, pred, ref, spacing_mm=(1, 1, 1), band_mm=2)
    assert found["prediction"].top.ece < 0.01
    assert found["foreground"].top.ece > 0.1
