"""Cases with different numbers of instances become one batch."""

from __future__ import annotations

import torch
from monai.data import DataLoader

from medseg.transforms.instances import collate_instances


def case(n: int) -> dict:
    classes = torch.arange(-1, n)
    return {"image": torch.full((1, 2, 2, 2), float(n)), "classes": classes, "flags": torch.ones(n + 1).byte()}


def test_tables_are_filled_up_to_the_longest():
    out = collate_instances([case(1), [case(3), case(0)]])
    assert out["image"].shape == (3, 1, 2, 2, 2)
    assert out["classes"].tolist() == [[-1, 0, -1, -1], [-1, 0, 1, 2], [-1, -1, -1, -1]]
    assert out["flags"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
    assert out["flags"].dtype == torch.uint8


def test_a_loader_takes_it():
    loader = DataLoader([case(n) for n in (2, 5, 1)], batch_size=2, collate_fn=collate_instances)
    assert [b["classes"].shape for b in loader] == [(2, 6), (1, 2)]
