"""The loss follows imbalance and shape, and every one on offer can be computed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medseg.bundle.gate import GatedParser
from medseg.training.plan.classes import classes_of
from medseg.training.plan.loss_choice import loss_for
from medseg.training.plan.shape import Form

HERE = Path("data")
REGIONS = {"labels": {"background": 0, "whole": [1, 2], "core": [2]}}


def form(ml: float, *, radius=5.0, tube=False) -> Form:
    return Form(round(1000 * ml), (ml,), radius, tube, (10.0, 10.0, 10.0))


def test_plain_structures_get_dice_and_cross_entropy(fact):
    facts = [fact(forms={1: form(1.7), 2: form(1.5)})]
    found = loss_for(facts, classes_of({}, {1, 2}, HERE), (1, 1, 1), (40, 56, 40))
    assert found.base == "dice_ce"
    assert found.losses["dice_ce"] == {
        "_target_": "DiceCELoss", "to_onehot_y": True, "softmax": True, "include_background": False, "batch": True,
    }  # fmt: skip


def test_next_to_nothing_gets_a_focal_term(fact):
    facts = [fact(forms={1: form(100.0), 2: form(0.1)})]
    found = loss_for(facts, classes_of({}, {1, 2}, HERE), (1, 1, 1), (96, 96, 96))
    assert found.base == "dice_focal"
    assert "label 2, is 0.011 % of a patch" in found.choice.why


def test_thin_tubes_get_their_centre_lines(fact):
    facts = [fact(forms={1: form(5.0, radius=1.6, tube=True)}) for _ in range(3)]
    found = loss_for(facts, classes_of({}, {1}, HERE), (1, 1, 1), (96, 96, 96))
    assert found.base == "dice_cldice"
    assert found.losses["dice_cldice"]["losses"][2]["iterations"] == 2
    assert found.thin_tubes == ("label 1",)


def test_a_few_tubes_among_many_organs_do_not_pay(fact):
    forms = {1: form(5.0, radius=1.6, tube=True)} | {n: form(50.0) for n in range(2, 12)}
    found = loss_for([fact(forms=forms)], classes_of({}, set(forms), HERE), (1, 1, 1), (96, 96, 96))
    assert found.base == "dice_ce"
    assert "too few among 11" in found.choice.why


@pytest.mark.parametrize("said", [{}, REGIONS])
def test_every_loss_on_offer_falls_when_the_prediction_gets_better(said, fact):
    classes = classes_of(said, {1, 2}, HERE)
    losses = loss_for([fact(forms={1: form(1.0), 2: form(1.0)})], classes, (1, 1, 1), (16, 16, 16)).losses
    label = torch.zeros(2, 1, 16, 16, 16)
    label[:, :, 3:12, 3:12, 3:12] = 1
    label[:, :, 6:9, 6:9, 3:12] = 2
    if classes.regions:
        truth = torch.cat([(label >= 1).float(), (label == 2).float()], 1)
    else:
        truth = torch.nn.functional.one_hot(label[:, 0].long(), 3).movedim(-1, 1).float()
    assert set(losses) == {"dice_ce", "dice_focal", "dice_cldice", "tversky"}
    for name, config in losses.items():
        parser = GatedParser({"loss": config}, HERE)
        loss = parser.get_parsed_content("loss")
        logits = torch.zeros_like(truth, requires_grad=True)
        value = loss(logits, label)
        value.backward()
        assert torch.isfinite(logits.grad).all(), name
        assert logits.grad.abs().max() > 0, name
        assert loss(8 * truth - 4, label) < value, name
