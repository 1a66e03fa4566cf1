"""Boxes seen from other boxes: MONAI's coder as the oracle, and nothing raises or overflows."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.apps.detection.utils.box_coder import BoxCoder

from medseg.networks.box_code import LARGEST_SCALE, decode, encode

BOX = st.lists(st.tuples(st.floats(-50, 50), st.floats(1, 40)), min_size=3, max_size=3)


def boxes(rows) -> torch.Tensor:
    return torch.tensor([[a for a, _ in row] + [a + n for a, n in row] for row in rows], dtype=torch.float32)


@given(st.lists(st.tuples(BOX, BOX), min_size=1, max_size=5))
def test_as_monai_and_back(pairs):
    true, references = boxes([a for a, _ in pairs]), boxes([b for _, b in pairs])
    codes = encode(true, references)
    coder = BoxCoder((1.0,) * 6)
    torch.testing.assert_close(codes, coder.encode_single(true, references), rtol=1e-4, atol=1e-4)
    inside = ((true[:, 3:] - true[:, :3]) / (references[:, 3:] - references[:, :3]) < LARGEST_SCALE).all(1)
    found = decode(codes, references)[inside]
    torch.testing.assert_close(found, coder.decode_single(codes, references)[inside], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found, true[inside], rtol=1e-4, atol=1e-3)


def test_worked_example():
    reference = torch.tensor([[2.0, 2, 2, 6, 6, 6]])
    code = torch.tensor([[0.25, 0, 0, torch.log(torch.tensor(2.0)), 0, 0]])
    torch.testing.assert_close(decode(code, reference), torch.tensor([[1.0, 2, 2, 9, 6, 6]]))


def test_empty_boxes_and_wild_codes_stay_finite():
    flat = torch.tensor([[1.0, 1, 1, 1, 5, 5]])
    assert encode(flat, flat).isfinite().all()
    assert decode(torch.full((1, 6), 500.0), torch.tensor([[0.0, 0, 0, 4, 4, 4]])).isfinite().all()
    assert decode(torch.zeros(0, 6), torch.zeros(0, 6)).shape == (0, 6)
