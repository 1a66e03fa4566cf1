"""A third of the weights, in a network of the same form."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.bundle.config import read_config
from medseg.bundle.shipped import find_bundle
from medseg.errors import UsageError
from medseg.networks import UNet
from medseg.training.smaller import smaller, weights_of

ROOT = find_bundle("hippocampus_mri_segmentation")
CONFIG = read_config(ROOT, "train")


def count(features) -> int:
    network = UNet(1, 3, features, deep_supervision=2)
    return sum(weight.numel() for weight in network.parameters())


def test_weights_are_counted_as_they_are():
    assert weights_of(CONFIG, ROOT) == count(CONFIG["network_def"]["features"])


def test_a_third_of_the_weights():
    (found,) = smaller(CONFIG, ROOT, 3).values()
    assert len(found) == len(CONFIG["network_def"]["features"])
    whole = count(CONFIG["network_def"]["features"])
    assert 0.28 * whole < count(found) <= whole / 3


@settings(max_examples=5)
@given(st.floats(1.1, 50))
def test_never_more_than_was_asked_for(by):
    (found,) = smaller(CONFIG, ROOT, by).values()
    assert count(found) * by <= count(CONFIG["network_def"]["features"])
    assert found == sorted(found)


def test_a_network_of_monai():
    network = {"_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [16, 32, 64]}
    config = {"network_def": network | {"strides": [2, 2]}}
    found = smaller(config, ROOT, 2)
    assert list(found) == ["network_def#channels"]


def test_what_cannot_be_made_smaller_is_said():
    for by in (1, 0, -3):
        with pytest.raises(UsageError, match=r"MS-T177[\s\S]*above 1"):
            smaller(CONFIG, ROOT, by)
    with pytest.raises(UsageError, match=r"MS-T177[\s\S]*by hand"):
        smaller({"network_def": {"_target_": "SegResNet"}}, ROOT, 2)
    with pytest.raises(UsageError, match=r"MS-T177[\s\S]*1e\+06 times"):
        smaller(CONFIG, ROOT, 1e6)
