"""Configs read back as they were, with short lists on one line."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.bundle.config import read_config
from medseg.bundle.config_text import config_text
from medseg.bundle.shipped import find_bundle

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(plain)
def test_it_reads_back(data):
    assert json.loads(config_text(data)) == data


@pytest.mark.parametrize("name", ["train", "inference", "metadata"])
def test_a_shipped_config_keeps_its_content_and_lines_stay_short(name):
    config = read_config(find_bundle("hippocampus_mri_segmentation"), name)
    text = config_text(config)
    assert json.loads(text) == config
    assert '"spacing_mm": [1.0, 1.0, 1.0]' in text or name == "metadata"


def test_nan_is_no_json():
    with pytest.raises(ValueError, match="not JSON compliant"):
        config_text({"a": math.nan})
