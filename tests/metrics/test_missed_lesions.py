import numpy as np
import pytest
from scipy import ndimage

from medseg.metrics.missed_lesions import lesion_uncertainty


def scene():
    """Lesions of 1, 2 and 8 voxels; the last one is found, the first is uncertain, the second is not."""
    ref, pred, uncertainty = np.zeros((12, 12, 12), np.uint8), np.zeros((12, 12, 12), bool), np.zeros((12, 12, 12))
    ref[1, 1, 1] = 1
    ref[5, 5, 5:7] = 2
    ref[8:10, 8:10, 8:10] = 1
    pred[9, 9, 9:12] = True
    uncertainty[1, 1, 1], uncertainty[5, 5, 5], uncertainty[5, 5, 8] = 0.6, 0.02, 0.9
    return pred, ref, uncertainty


def test_a_hand_worked_scene():
    got = lesion_uncertainty(*scene(), spacing_mm=(1, 2, 3))
    assert sorted(got.volume_mm3.tolist()) == [6, 12, 48]
    assert dict(zip(got.volume_mm3.tolist(), got.found.tolist(), strict=True)) == {6: False, 12: False, 48: True}
    assert dict(zip(got.volume_mm3.tolist(), got.uncertainty.tolist(), strict=True)) == {6: 0.6, 12: 0.02, 48: 0}
    assert (got.n_missed, got.n_silent(0.1), got.silent_share(0.1)) == (2, 1, 0.5)
    assert (got.n_silent(0.02), got.n_silent(0.7)) == (0, 2)
    mean = lesion_uncertainty(*scene(), spacing_mm=(1, 2, 3), of="mean")
    assert sorted(mean.uncertainty.tolist()) == [0, 0.01, 0.6]


@pytest.mark.parametrize(("connectivity", "rank"), [(6, 1), (18, 2), (26, 3)])
@pytest.mark.parametrize("of", ["max", "mean"])
def test_equals_scipy(connectivity, rank, of):
    random = np.random.default_rng(0)
    ref, pred, uncertainty = (
        random.random((20, 21, 22)) < 0.05,
        random.random((20, 21, 22)) < 0.1,
        random.random((20, 21, 22)),
    )
    got = lesion_uncertainty(pred, ref, uncertainty, spacing_mm=(1, 1, 1), of=of, connectivity=connectivity)
    lesions, n = ndimage.label(ref, ndimage.generate_binary_structure(3, rank))
    statistic = {"max": ndimage.maximum, "mean": ndimage.mean}[of]
    want = zip(
        ndimage.sum(ref, lesions, range(1, n + 1)),
        ndimage.maximum(pred, lesions, range(1, n + 1)),
        statistic(uncertainty, lesions, range(1, n + 1)),
        strict=True,
    )
    found = zip(got.volume_mm3, got.found, got.uncertainty, strict=True)
    np.testing.assert_allclose(
        sorted(tuple(map(float, row)) for row in found), sorted(tuple(map(float, r)) for r in want)
    )


def test_lesions_of_cases_add_up():
    one = lesion_uncertainty(*scene(), spacing_mm=(1, 1, 1))
    none = lesion_uncertainty(*(np.zeros_like(a) for a in scene()), spacing_mm=(1, 1, 1))
    total = sum([one, none, one])
    assert (len(total.found), total.n_missed, total.silent_share(0.1)) == (6, 4, 0.5)
    assert none.n_missed == 0
    assert np.isnan(none.silent_share(0.1))


def test_wrong_arguments_are_named():
    pred, ref, uncertainty = scene()
    with pytest.raises(ValueError, match=r"got \(11, 12, 12\), \(12, 12, 12\)"):
        lesion_uncertainty(pred[1:], ref, uncertainty, spacing_mm=(1, 1, 1))
    with pytest.raises(ValueError, match="got 'median' and 26"):
        lesion_uncertainty(pred, ref, uncertainty, spacing_mm=(1, 1, 1), of="median")
    with pytest.raises(ValueError, match="got 'max' and 8"):
        lesion_uncertainty(pred, ref, uncertainty, spacing_mm=(1, 1, 1), connectivity=8)
    uncertainty[5, 5, 5] = np.nan
    with pytest.raises(ValueError, match="a lesion holds NaN"):
        lesion_uncertainty(pred, ref, uncertainty, spacing_mm=(1, 1, 1))
