from __future__ import annotations

import pytest
import torch

from medseg.errors import UsageError
from medseg.inferers.outputs import full_resolution

WINDOWS = torch.zeros(2, 1, 8, 8, 8)
FULL, COARSE = torch.zeros(2, 3, 8, 8, 8), torch.zeros(2, 3, 4, 4, 4)


@pytest.mark.parametrize(
    "output",
    [
        FULL,
        [FULL, COARSE],
        (FULL,),
        {"other": COARSE, "pred": FULL},
        {"logits": FULL, "aux": COARSE},
        {"pred": [FULL, COARSE]},
    ],
    ids=["tensor", "list", "tuple", "pred", "first entry", "pred of levels"],
)
def test_the_full_resolution_is_taken(output):
    assert full_resolution(output, WINDOWS) is FULL


@pytest.mark.parametrize(
    ("output", "match"),
    [
        (
            COARSE,
            r"MS-U144 the network returned a Tensor of shape \(2, 3, 4, 4, 4\) for windows of shape \(2, 1, 8, 8, 8\)",
        ),
        (torch.zeros(1, 3, 8, 8, 8), "MS-U144"),
        (torch.zeros(2, 4, 3, 8, 8, 8), "MS-U144"),
        ([], "MS-U144 the network returned a list"),
        (None, "MS-U144 the network returned a NoneType"),
        ("pred", "MS-U144 the network returned a str"),
    ],
)
def test_what_is_no_window_of_classes_is_refused(output, match):
    with pytest.raises(UsageError, match=match):
        full_resolution(output, WINDOWS)
