"""dataset.json as nnU-Net's LabelManager reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from medseg.bundle.nnunet.labels import channels_of, outputs_of
from medseg.errors import BundleError

ROOT = Path("model")
BRATS = {
    "labels": {"background": 0, "whole tumour": [1, 2, 3], "core": [2, 3], "enhancing": 3},
    "regions_class_order": [1, 2, 3],
}


def test_classes():
    found = outputs_of({"labels": {"background": 0, "b": 2, "a": 1, "ignore": 3}}, ROOT)
    assert found.channels == ("background", "a", "b")
    assert [(row.value, row.name) for row in found.table] == [(1, "a"), (2, "b")]
    assert found.regions is None


def test_regions_are_painted_in_the_order_of_the_classes():
    found = outputs_of(BRATS, ROOT)
    assert found.channels == ("whole tumour", "core", "enhancing")
    assert found.regions == (1, 2, 3)
    assert {row.name: row.region for row in found.table} == {
        "whole tumour": (1, 2, 3), "core": (2, 3), "enhancing": (3,)
    }  # fmt: skip


def test_lists_of_one_value_are_classes():
    assert outputs_of({"labels": {"background": 0, "a": [1]}}, ROOT).regions is None


def test_channels_in_the_order_of_their_numbers_each_name_once():
    many = {str(n): "T1" if n in (0, 2) else f"c{n}" for n in (10, 2, 0, 1)}
    assert channels_of({"channel_names": many}, ROOT) == ("T1 0", "c1", "T1 2", "c10")
    assert channels_of({"modality": {"0": "CT"}}, ROOT) == ("CT",)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ({}, "`labels` does not begin with background 0"),
        ({"labels": {"a": 1}}, "`labels` does not begin with background 0"),
        ({"labels": {"background": 0, "a": 1, "b": 3}}, r"label values are \[1, 3\] and not 1 to 2"),
        ({"labels": {"background": 0, "a": "x"}}, "a label is 'x'"),
        ({"labels": {"background": 0, "a": []}}, "a label has no value"),
        ({**BRATS, "regions_class_order": [1, 2]}, "3 regions, but `regions_class_order` is"),
        ({**BRATS, "regions_class_order": [1, 1, 2]}, "each region needs a value of its own"),
    ],
)
def test_what_is_not_understood(dataset, message):
    with pytest.raises(BundleError, match=message) as caught:
        outputs_of(dataset, ROOT)
    assert caught.value.code == "MS-B156"


@pytest.mark.parametrize("dataset", [{}, {"channel_names": {}}, {"channel_names": {"x": "T1"}}])
def test_channels_that_are_not_named(dataset):
    with pytest.raises(BundleError, match="channel_names") as caught:
        channels_of(dataset, ROOT)
    assert caught.value.code == "MS-B156"
