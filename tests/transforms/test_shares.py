"""Shares of annotators: counted by hand, and distributions whatever they say."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg.transforms import SharesFromAnnotatorsd
from medseg.transforms.shares import UNKNOWN, shares


def maps(*rows):
    return torch.tensor(rows)[:, :, None, None]


def test_shares_are_counted():
    found = shares(maps([0, 1, 2], [0, 1, 1], [0, 2, 1]), 3)[:, :, 0, 0]
    assert torch.allclose(found.T, torch.tensor([[3.0, 0, 0], [0, 2, 1], [0, 2, 1]]) / 3)


def test_who_leaves_a_voxel_open_does_not_count_there():
    found = shares(maps([1, 9, 9], [1, 1, 9]), 2, ignore=9)[:, :, 0, 0]
    assert found.T.tolist() == [[0, 1], [0, 1], [UNKNOWN, UNKNOWN]]


def test_regions_are_shares_of_each():
    found = shares(maps([1, 2], [2, 0]), 2, [[1, 2], [2]])[:, :, 0, 0]
    assert found.T.tolist() == [[1, 0.5], [0.5, 0.5]]


def test_the_transform_takes_the_annotators_out_and_does_without():
    made = SharesFromAnnotatorsd(classes=3)
    label = maps([0, 1, 2])
    out = made({"label": label, "annotators": maps([0, 1, 2], [0, 2, 2])})
    assert set(out) == {"label"}
    assert out["label"][:, 1, 0, 0].tolist() == [0, 0.5, 0.5]
    alone = made({"label": label})["label"]
    assert torch.equal(alone, torch.nn.functional.one_hot(label[0], 3).movedim(-1, 0).float())


@given(st.integers(1, 4), st.integers(0, 2**31 - 1))
def test_they_add_up_to_one_or_are_unknown(count, seed):
    said = torch.randint(0, 4, (count, 3, 3, 3), generator=torch.Generator().manual_seed(seed))
    found = shares(said, 3, ignore=3)
    unknown = (said == 3).all(0)
    assert torch.allclose(found.sum(0)[~unknown], torch.ones(1))
    assert (found[:, unknown] == UNKNOWN).all()
