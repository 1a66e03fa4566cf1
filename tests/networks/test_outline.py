"""Boxes about an object that is outlined already are left out; neighbours whose masks are apart never."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg.networks.outline import HELD, outline, share_held

SEED = st.integers(0, 2**32 - 1)


def bar(cells: int = 24) -> torch.Tensor:
    """An object along the diagonal of the first two axes, as a mask of its own box."""
    along = (torch.arange(cells) + 0.5) / cells
    near = (along[:, None] - along[None]).abs() < 0.12
    return near[:, :, None].expand(cells, cells, cells).float()


class Outliner:
    """Stands in for the mask head: one mask for every box; remembers what it was asked."""

    def __init__(self, mask: torch.Tensor) -> None:
        self.mask, self.asked = mask, []

    def __call__(self, which: torch.Tensor) -> torch.Tensor:
        self.asked.append(which.tolist())
        return (self.mask * 20 - 10).expand(len(which), *self.mask.shape)


def test_worked_example():
    own, neighbour, double = [0, 0, 0, 10, 10, 10], [3, -3, 0, 13, 7, 10], [1, 0, 0, 11, 10, 10]
    held = share_held(bar(), torch.tensor(own), torch.tensor([neighbour, double]).float())
    assert held[0] < 0.5
    assert 0.88 < held[1] < 0.95


@given(SEED)
def test_the_share_is_that_of_ten_thousand_points(seed):
    g = torch.Generator().manual_seed(seed)
    mask = torch.rand(3, 4, 5, generator=g)
    box = torch.tensor([1.0, -2.0, 0.5, 7.0, 3.0, 9.0])
    low = torch.rand(6, 3, generator=g) * 8 - 2
    others = torch.cat([low, low + torch.rand(6, 3, generator=g) * 8], 1)
    fine = torch.nn.functional.interpolate(mask[None, None], scale_factor=8, mode="nearest")[0, 0]
    axes = [box[a] + (torch.arange(n) + 0.5) / n * (box[a + 3] - box[a]) for a, n in enumerate(fine.shape)]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    for share, other in zip(share_held(mask, box, others), others, strict=True):
        inside = ((points >= other[:3]) & (points < other[3:])).all(-1)
        assert float(share) == pytest.approx(float(fine[inside].sum() / fine.sum()), abs=0.06)


def test_an_empty_mask_and_no_others():
    box = torch.tensor([0.0, 0, 0, 4, 4, 4])
    assert share_held(torch.zeros(2, 2, 2), box, box[None]).tolist() == [0.0]
    assert share_held(torch.ones(2, 2, 2), box, torch.zeros(0, 6)).shape == (0,)


def test_doubles_are_not_outlined_and_parallel_neighbours_are():
    first = torch.tensor([0.0, 0, 0, 10, 10, 10])
    row = torch.stack([first + torch.tensor([2.4 * n, -2.4 * n, 0, 2.4 * n, -2.4 * n, 0]) for n in range(4)])
    jitter = torch.tensor([[0.7, 0.2, 0, 0.7, 0.2, 0.3], [-0.5, 0.5, 0.2, 0.6, 0.5, 0.2], [0, 0, -0.4, 0, 0.8, 0.4]])
    doubles = (row[:, None] + jitter[None]).reshape(-1, 6)
    boxes, scores = torch.cat([row, doubles]), torch.linspace(0.9, 0.6, 16)
    ask = Outliner(bar())
    kept, logits = outline(boxes, scores, ask)
    assert kept.tolist() == [0, 1, 2, 3]
    assert logits.shape == (4, 24, 24, 24)
    assert sorted(n for some in ask.asked for n in some) == [0, 1, 2, 3]


@given(SEED)
def test_what_goes_is_held_by_something_better_that_stays(seed):
    g = torch.Generator().manual_seed(seed)
    low = torch.rand(30, 3, generator=g) * 12
    boxes = torch.cat([low, low + 4 + torch.rand(30, 3, generator=g) * 6], 1)
    scores = torch.rand(30, generator=g).sort(descending=True).values
    mask = torch.rand(6, 6, 6, generator=g)
    kept, logits = outline(boxes, scores, Outliner(mask))
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert len(logits) == len(kept)
    assert kept[0] == 0
    seen = (mask * 20 - 10).sigmoid()
    for n in sorted(set(range(30)) - set(kept.tolist())):
        better = [k for k in kept.tolist() if k < n]
        assert max(float(share_held(seen, boxes[k], boxes[n : n + 1])) for k in better) >= HELD


def test_boxes_apart_are_all_outlined_in_one_round_and_none_is_fine():
    low = torch.arange(5.0)[:, None] * torch.tensor([[20.0, 0, 0]])
    boxes = torch.cat([low, low + 8], 1)
    ask = Outliner(torch.ones(4, 4, 4))
    assert outline(boxes, torch.linspace(1, 0.5, 5), ask)[0].tolist() == [0, 1, 2, 3, 4]
    assert ask.asked == [[0, 1, 2, 3, 4]]
    kept, logits = outline(torch.zeros(0, 6), torch.zeros(0), Outliner(torch.ones(4, 4, 4)))
    assert len(kept) == 0
    assert logits.shape == (0, 4, 4, 4)
