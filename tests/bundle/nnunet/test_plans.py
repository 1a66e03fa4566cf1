"""The configuration a model was trained with, and kind refusals of what medseg does not do."""

from __future__ import annotations

from pathlib import Path

import pytest

from medseg.bundle.nnunet.plans import axcodes_of, configuration_of
from medseg.errors import BundleError
from tests.bundle.nnunet.made import PLANS

ROOT = Path("model")


def test_what_is_inherited_is_there():
    found = configuration_of(PLANS, "3d_twice", ROOT)
    assert found["batch_size"] == 4
    assert found["spacing"] == [2.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("2d", "MS-B154", r"2d segments slice by slice(?s:.*)import a model of the configuration 3d_fullres instead"),
        ("3d_cascade_fullres", "MS-B154", r"second stage of a cascade: it also takes the output of 3d_lowres"),
        ("3d_other", "MS-B153", r"'3d_other' is not in plans.json; plans.json has 2d, 3d_fullres"),
        ("circle", "MS-B153", r"'circle' inherits from itself"),
    ],
)
def test_what_is_refused(name, code, message):
    with pytest.raises(BundleError, match=message) as caught:
        configuration_of(PLANS, name, ROOT)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("reader", "axcodes"), [("SimpleITKIO", None), ("NibabelIO", None), ("NibabelIOWithReorient", "RAS")]
)
def test_how_its_reader_turned_images(reader, axcodes):
    assert axcodes_of({"image_reader_writer": reader}, ROOT) == axcodes


def test_a_reader_of_pictures_is_refused():
    with pytest.raises(BundleError, match="the reader NaturalImage2DIO") as caught:
        axcodes_of({"image_reader_writer": "NaturalImage2DIO"}, ROOT)
    assert caught.value.code == "MS-B155"
