"""Which number belongs to which anchor, and what is proposed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medseg.networks.box_code import decode, encode
from medseg.networks.rpn import RPN, Proposed, proposals


@torch.no_grad()
def test_scores_and_codes_stand_beside_their_anchors():
    """Features that say where they are: the logit of anchor a is (a + 1) times the place, its codes likewise."""
    sizes = [[[4.0, 4, 4], [6, 6, 8]], [[10, 10, 10], [12, 8, 8]]]
    rpn = RPN(3, [(2, 2, 2), (4, 4, 2)], sizes)
    rpn.shared = nn.Identity()
    rpn.objectness.weight.copy_(torch.tensor([[1.0, 100, 10000], [2, 200, 20000]]).reshape(2, 3, 1, 1, 1))
    rpn.objectness.bias.zero_()
    rpn.codes.weight.zero_()
    for anchor in range(2):
        for code in range(6):
            rpn.codes.weight[6 * anchor + code, 0] = 10 * anchor + code
    rpn.codes.bias.zero_()
    levels = []
    for stride, space in (((2, 2, 2), (5, 4, 3)), ((4, 4, 2), (2, 2, 3))):
        axes = [(torch.arange(n) + 0.5) * s for n, s in zip(space, stride, strict=True)]
        levels.append(torch.stack(torch.meshgrid(*axes, indexing="ij"))[None].repeat(2, 1, 1, 1, 1))
    proposed = rpn(levels)
    assert proposed.per_level == (120, 24)
    centre = (proposed.anchors[:, :3] + proposed.anchors[:, 3:]) / 2
    size = proposed.anchors[:, 3:] - proposed.anchors[:, :3]
    which = torch.arange(144) % 2
    place = centre @ torch.tensor([1.0, 100, 10000])
    for image in range(2):
        torch.testing.assert_close(proposed.logits[image], place * (which + 1))
        torch.testing.assert_close(proposed.codes[image], centre[:, :1] * (10 * which[:, None] + torch.arange(6.0)))
    assert size[0].tolist() == sizes[0][0]
    assert size[121].tolist() == sizes[1][1]


@torch.no_grad()
def test_proposals_are_decoded_clipped_and_free_of_nonsense():
    anchors = torch.tensor([[0.0, 0, 0, 8, 8, 8], [12, 12, 12, 20, 20, 20], [2, 2, 2, 6, 6, 6], [4, 4, 4, 9, 9, 9]])
    wanted = torch.tensor([[-3.0, 1, 1, 7, 7, 7], [10, 10, 10, 24, 18, 18], [2, 2, 2, 6, 6, 6], [4, 4, 4, 9, 9, 9]])
    codes = encode(wanted, anchors)[None]
    codes[0, 2] = float("nan")
    logits = torch.tensor([[1.0, 3.0, 5.0, float("nan")]])
    ((boxes, scores),) = proposals(Proposed(anchors, (2, 2), logits, codes), (16, 16, 16))
    assert boxes.tolist() == [pytest.approx([10, 10, 10, 16, 16, 16]), pytest.approx([0, 1, 1, 7, 7, 7], abs=1e-5)]
    torch.testing.assert_close(scores, torch.tensor([3.0, 1.0]).sigmoid())
    torch.testing.assert_close(decode(codes[0, :2], anchors[:2]), wanted[:2])


def test_levels_without_sizes_propose_nothing():
    rpn = RPN(4, [(2, 2, 2), (4, 4, 4)], [[], [[8.0, 8, 8]]])
    proposed = rpn([torch.zeros(1, 4, 8, 8, 8), torch.zeros(1, 4, 4, 4, 4)])
    assert proposed.per_level == (64,)
    with pytest.raises(ValueError, match="equally many"):
        RPN(4, [(2, 2, 2)], [[], []])
