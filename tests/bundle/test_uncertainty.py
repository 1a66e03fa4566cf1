"""What a bundle declares about its uncertainty is read exactly, or refused with the part that is wrong."""

from __future__ import annotations

import pytest

from medseg.bundle.uncertainty import Calibration, Declared, Flags, read_declared
from medseg.errors import BundleError


def test_nothing_declared_is_all_defaults(tmp_path):
    assert read_declared(None, tmp_path) == read_declared({}, tmp_path) == Declared()


def test_everything_declared(tmp_path):
    found = read_declared(
        {
            "mc": {"samples": 10, "points": {"dropout_head": None, "dropout_decoder": 0.3}},
            "ensemble": {"weights": ["models/member_1.safetensors"]},
            "mirrors": ["LR", "SI+LR"],
            "calibration": {
                "mc": {"temperature": 2, "dice": {"Liver": [0.1, 0.9]}, "agreement": {"Liver": 0.7}},
                "tta": {},
            },
            "flags": {"low_dice": 0.8},
        },
        tmp_path,
    )
    assert found.samples == 10
    assert found.points == {"dropout_head": None, "dropout_decoder": 0.3}
    assert found.weights == ("models/member_1.safetensors",)
    assert found.mirrors == ((0,), (0, 2))
    assert found.calibration == {"mc": Calibration(2.0, {"Liver": (0.1, 0.9)}, {"Liver": 0.7}), "tta": Calibration()}
    assert found.flags == Flags(low_dice=0.8)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ([], "uncertainty must be a table"),
        ({"dropout": {}}, "uncertainty has 'dropout', known are mc"),
        ({"mc": {"sample": 3}}, "mc has 'sample'"),
        ({"mirrors": ["UD"]}, "the mirror 'UD' is none of LR, AP, SI"),
        ({"ensemble": {"weights": ["../other/model.pt"]}}, "lie outside the bundle"),
        ({"calibration": {"mc": {"temperature": 0}}}, "a temperature is above 0"),
        ({"calibration": {"mc:20": {}}}, "calibration has 'mc:20'"),
        ({"calibration": {"mc": {"dice": {"Liver": [1]}}}}, "not understood"),
        ({"flags": {"low": 1}}, "flags has 'low'"),
    ],
)
def test_what_is_not_understood_is_refused(config, words, tmp_path):
    with pytest.raises(BundleError, match=words) as caught:
        read_declared(config, tmp_path)
    assert caught.value.code == "MS-B115"
