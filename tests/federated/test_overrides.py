"""A job may put a plain value in the place of a plain value, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.bundle.config import read_config
from medseg.bundle.shipped import find_bundle
from medseg.errors import UsageError
from medseg.federated.overrides import check_overrides

CONFIG = {
    "learning_rate": 0.002,
    "batch_size": 2,
    "deep": True,
    "patience": None,
    "mode": "gaussian",
    "patch_size": [40, 56, 40],
    "dataset_dir": "data",
    "network_def": {"_target_": "UNet", "features": [24, 48]},
    "train": {"handlers": [{"_target_": "Guard", "max_norm": 12.0}]},
    "loss": "@losses#dice",
    "where": "/scans",
}


def test_plain_values_pass():
    said = {
        "learning_rate": 1e-3,
        "batch_size": 4,
        "deep": False,
        "patience": 5,
        "mode": "constant",
        "patch_size": [16, 16, 16],
        "network_def#features": [8, 16],
        "train#handlers#0#max_norm": 1,
    }
    assert check_overrides(said, CONFIG) == said


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("network_def#_target_", "os.system", "no entry"),
        ("network_def", {"_target_": "os.system"}, "more than a plain value"),
        ("learning_rate", "$__import__('os')", "more than a plain value"),
        ("mode", "$print(1)", "more than a plain value"),
        ("mode", "@network_def", "more than a plain value"),
        ("mode", "%other.json", "more than a plain value"),
        ("mode", "../other", "more than a plain value"),
        ("mode", "C:\\scans", "more than a plain value"),
        ("patch_size", [16, "$x"], "more than a plain value"),
        ("loss", "other", "more than a plain value"),
        ("where", "there", "more than a plain value"),
        ("dataset_dir", "elsewhere", "no entry"),
        ("run", ["x"], "no entry"),
        ("unknown", 3, "not in the bundle"),
        ("train#handlers#7#max_norm", 1, "not in the bundle"),
        ("learning_rate", "fast", "is a number in the bundle, and text"),
        ("deep", 1, "is true or false in the bundle, and a number"),
        ("learning_rate", float("nan"), "more than a plain value"),
        ("learning_rate#", 1, "no entry"),
        ("a b", 1, "no entry"),
    ],
)
def test_everything_else_is_refused(key, value, why):
    with pytest.raises(UsageError, match=f"MS-J015[\\s\\S]*{why}"):
        check_overrides({key: value}, CONFIG)


@given(st.text(max_size=30))
def test_no_text_that_passes_means_anything_to_the_parser(text):
    try:
        check_overrides({"mode": text}, CONFIG)
    except UsageError:
        return
    assert text[0].isalnum()
    assert not set(text) & set("$@%/\\~")


def test_the_shipped_recipe_takes_them():
    config = read_config(find_bundle("hippocampus_mri_segmentation"), "train")
    assert check_overrides({"learning_rate": 0.001, "batch_size": 1, "cache_gb": 1.5}, config)
