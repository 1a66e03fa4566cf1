"""Plans as components of a config; that they do what nnU-Net does is tested against nnU-Net (test_trained.py)."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from medseg.bundle.nnunet.preprocessing import from_grid, resizing_of, to_grid
from medseg.errors import BundleError
from medseg.transforms import FromNnunetGridd, ToNnunetGridd
from tests.bundle.nnunet.made import CONFIGURATION, PLANS

ROOT = Path("model")


def changed(**entries):
    return {**copy.deepcopy(CONFIGURATION), **entries}


def arguments(component):
    return {key: value for key, value in component.items() if key != "_target_"}


def test_the_transforms_take_what_is_written():
    step = to_grid(PLANS, CONFIGURATION, 1, ROOT)
    assert step["_target_"] == "medseg.transforms.ToNnunetGridd"
    assert step["normalisation"] == [{"scheme": "zscore"}]
    assert step["resizing"] == {"order": 3, "order_z": 0, "separate": None}
    assert "axcodes" not in step
    ToNnunetGridd(**arguments(step))
    back = from_grid(CONFIGURATION, (1, 3), ROOT)
    assert back["regions"] == [1, 3]
    FromNnunetGridd(**arguments(back))


@pytest.mark.parametrize(
    ("scheme", "want"),
    [
        ("CTNormalization", {"scheme": "ct", "low": -50.0, "high": 150.0, "mean": 40.0, "std": 20.0}),
        ("NoNormalization", {"scheme": "none"}),
        ("RescaleTo01Normalization", {"scheme": "rescale01"}),
        ("RGBTo01Normalization", {"scheme": "rgb01"}),
    ],
)
def test_schemes(scheme, want):
    step = to_grid(PLANS, changed(normalization_schemes=[scheme]), 1, ROOT)
    assert step["normalisation"] == [want]
    ToNnunetGridd(**arguments(step))


def test_channels_have_schemes_of_their_own():
    both = changed(normalization_schemes=["ZScoreNormalization"] * 2, use_mask_for_norm=[True, False])
    step = to_grid(PLANS, both, 2, ROOT)
    assert step["normalisation"] == [{"scheme": "zscore", "nonzero": True}, {"scheme": "zscore"}]


def test_axes_of_readers_that_turn_images():
    turning = {**PLANS, "image_reader_writer": "SimpleITKIOWithReorient"}
    assert to_grid(turning, CONFIGURATION, 1, ROOT)["axcodes"] == "RAS"


def test_other_resamplings():
    with_torch = changed(resampling_fn_data="resample_torch_fornnunet", resampling_fn_data_kwargs={"is_seg": False})
    assert resizing_of(with_torch, "data", ROOT) == {"order": 1, "order_z": 0, "clip": False, "separate": None}
    none = changed(resampling_fn_data="no_resampling_hack", resampling_fn_data_kwargs={})
    assert resizing_of(none, "data", ROOT) == {"order": None}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"preprocessor_name": "MyOwn"}, "the preprocessor MyOwn"),
        ({"normalization_schemes": ["Histogram"]}, "the normalisation Histogram"),
        ({"normalization_schemes": ["NoNormalization"] * 2}, "2 normalisations for 1 channels"),
        ({"resampling_fn_data": "mine"}, "resampling data with mine"),
        ({"resampling_fn_data_kwargs": {"order": 2}}, "resampling data with order 2"),
    ],
)
def test_what_medseg_does_not_have(entries, message):
    with pytest.raises(BundleError, match=message) as caught:
        to_grid(PLANS, changed(**entries), 1, ROOT)
    assert caught.value.code == "MS-B155"


def test_probabilities_are_interpolated_linearly():
    cubic = changed(resampling_fn_probabilities_kwargs={"order": 3})
    with pytest.raises(BundleError, match="probabilities resampled with order 3") as caught:
        from_grid(cubic, None, ROOT)
    assert caught.value.code == "MS-B155"


def test_ct_without_measured_intensities():
    plans = {**PLANS, "foreground_intensity_properties_per_channel": {}}
    with pytest.raises(BundleError, match="`percentile_00_5` is missing") as caught:
        to_grid(plans, changed(normalization_schemes=["CTNormalization"]), 1, ROOT)
    assert caught.value.code == "MS-B155"
