"""Flags of labelled classes: read back by the loss that needs them."""

from __future__ import annotations

import pytest
import torch
from monai.data import DataLoader, Dataset

from medseg.losses import marginal
from medseg.losses.marginal import labelled_classes
from medseg.transforms import LabelledClassesd
from medseg.transforms.labelled_classes import BITS


@pytest.mark.parametrize("n", [2, 4, BITS + 1, BITS + 2, 105])
def test_the_loss_reads_what_the_transform_wrote(n):
    assert BITS == marginal.BITS
    rng = torch.Generator().manual_seed(n)
    sets = [sorted((torch.randperm(n - 1, generator=rng)[: k % n] + 1).tolist()) for k in range(6)]
    items = [{"label": torch.zeros(1, 2, 3, 2, dtype=torch.uint8), "labelled": s} for s in sets]
    items.append({"label": torch.zeros(1, 2, 3, 2)})  # says nothing: labelled in full
    label = next(iter(DataLoader(Dataset(items, LabelledClassesd("label", n)), batch_size=7)))["label"]
    assert label.dtype == torch.float32
    assert label.shape == (7, 1 + -(-(n - 1) // BITS), 2, 3, 2)
    assert labelled_classes(label[:, 1:], n) == [(0, *s) for s in [*sets, range(1, n)]]
    assert (label[:, 1:] == label[:, 1:, :1, :1, :1]).all()


def test_the_label_stays_in_front():
    label = torch.rand(3, 2, 2, 2)
    item = {"label": label, "labelled": [2]}
    out = LabelledClassesd("label", 3)(item)
    assert torch.equal(out["label"][:3], label)
    assert out["label"][3].unique().tolist() == [2]
    assert "labelled" not in out
    assert item["labelled"] == [2]
    assert LabelledClassesd("other", 3, allow_missing_keys=True)(item)["label"] is label


def test_cases_that_say_nothing_are_labelled_as_their_site_is():
    flags = LabelledClassesd("label", 4, labelled=[1, 3])
    label = torch.zeros(1, 2, 2, 2)
    assert flags({"label": label})["label"][1].unique().tolist() == [0b101]
    assert flags({"label": label, "labelled": [2]})["label"][1].unique().tolist() == [0b010]


def test_a_class_that_the_network_does_not_have_is_refused():
    with pytest.raises(ValueError, match=r"labelled is \[1, 3\]; the network's classes are 1 to 2"):
        LabelledClassesd("label", 3)({"label": torch.zeros(1, 2, 2, 2), "labelled": [3, 1]})
