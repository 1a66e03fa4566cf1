"""The joined loss: its terms against their definitions, what a box alone teaches, and weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss, TverskyLoss
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from medseg.losses.detection import TERMS, DetectionLoss, box_loss
from medseg.losses.projection import profiles, projection_loss
from medseg.networks.sampled import Sampled


def sampled(known: tuple[bool, ...] = (True, True, True)) -> Sampled:
    torch.manual_seed(0)
    n = len(known)
    low = torch.rand(n, 3) * 5
    boxes = torch.cat([low, low + 4], 1)
    return Sampled(
        objectness=torch.randn(9, requires_grad=True),
        is_object=(torch.arange(9) < 3).float(),
        anchor_codes=torch.randn(n, 6, requires_grad=True),
        true_anchor_codes=torch.randn(n, 6),
        anchor_boxes=boxes + 0.5,
        true_anchor_boxes=boxes,
        class_logits=torch.randn(7, 3, requires_grad=True),
        true_classes=torch.tensor([0, 1, 2, 0, 0, 1, 0]),
        box_codes=torch.randn(n, 6, requires_grad=True),
        true_box_codes=torch.randn(n, 6),
        boxes=boxes + 0.25,
        true_boxes=boxes,
        mask_logits=torch.randn(n, 6, 6, 6, requires_grad=True),
        true_masks=(torch.rand(n, 6, 6, 6) > 0.5).float(),
        point_logits=torch.randn(n, 4, requires_grad=True),
        true_points=(torch.rand(n, 4) > 0.5).float(),
        has_mask=torch.tensor(known, dtype=torch.bool),
        semantic=torch.randn(2, 3, 4, 4, 4, requires_grad=True),
        true_semantic=torch.randint(0, 3, (2, 4, 4, 4)),
    )


def test_the_terms_are_their_definitions():
    batch = sampled()
    loss = DetectionLoss()
    total = loss(batch)
    mask = batch.mask_logits[:, None], batch.true_masks[:, None]
    expected = {
        "objectness": binary_cross_entropy_with_logits(batch.objectness, batch.is_object),
        "class": cross_entropy(batch.class_logits, batch.true_classes),
        "mask": binary_cross_entropy_with_logits(*mask)
        + DiceLoss(sigmoid=True, soft_label=True)(*mask)
        + binary_cross_entropy_with_logits(batch.point_logits, batch.true_points),
        "semantic": DiceCELoss(softmax=True, to_onehot_y=True, include_background=False)(
            batch.semantic, batch.true_semantic[:, None]
        ),
    }
    for name, value in expected.items():
        assert loss.terms[name] == pytest.approx(value.item())
    # a cube of 4 shifted by 1/2 along each axis: 3.5^3 of 2 * 4^3 - 3.5^3, in a hull of 4.5^3
    both = 3.5**3
    union = 2 * 64 - both
    giou = both / union - (4.5**3 - union) / 4.5**3
    code = (batch.anchor_codes - batch.true_anchor_codes).abs()
    smooth = torch.where(code < 0.1, 0.5 * code**2 / 0.1, code - 0.05).mean()
    assert loss.terms["anchor_box"] == pytest.approx(smooth.item() + 1 - giou, rel=1e-4)
    assert total.item() == pytest.approx(sum(loss.terms.values()), rel=1e-5)


def test_unknown_voxels_have_no_gradient_and_the_known_ones_have():
    batch = sampled()
    unknown = torch.zeros(2, 4, 4, 4, dtype=torch.bool)
    unknown[0, :2] = True
    batch = replace(batch, true_semantic=torch.where(unknown, -1, batch.true_semantic))
    DetectionLoss()(batch).backward()
    gradient = batch.semantic.grad
    assert not gradient.movedim(1, -1)[unknown].any()
    assert gradient.movedim(1, -1)[~unknown].any(1).all()


def test_a_box_alone_teaches_the_extent_of_a_mask():
    """Gradient descent on the projection alone fills the box from end to end along each axis, and not beyond."""
    extents = torch.zeros(1, 8, 8, 8)
    extents[:, 2:6, 1:7, 3:5] = 1
    torch.manual_seed(0)
    logits = (torch.randn(1, 8, 8, 8) * 0.1 - 0.5).requires_grad_()
    optimizer = torch.optim.Adam([logits], 0.3)
    for _ in range(200):
        optimizer.zero_grad()
        projection_loss(logits, extents).sum().backward()
        optimizer.step()
    for found, wanted in zip(profiles((logits > 0).float()), profiles(extents), strict=True):
        assert torch.equal(found, wanted)
    perfect = torch.where(extents > 0, 20.0, -20.0)
    assert float(projection_loss(perfect, extents)) == pytest.approx(0, abs=1e-4)


def test_instances_without_masks_train_by_their_boxes_only():
    batch = sampled((True, False, True))
    DetectionLoss({term: 0.0 for term in TERMS if term != "mask"})(batch).backward()
    one = batch.mask_logits.grad[1]
    inside = batch.true_masks[1] > 0
    assert (one[~inside] > 0).all()  # nothing is there
    assert 0 < (one[inside] != 0).sum() <= 3 * 6  # where a profile is largest, and nowhere else
    assert (batch.mask_logits.grad[0] != 0).all()


def test_no_instance_is_no_loss_but_has_a_gradient():
    batch = sampled(())
    loss = DetectionLoss()
    total = loss(batch)
    total.backward()
    assert loss.terms["mask"] == loss.terms["box"] == loss.terms["anchor_box"] == 0
    assert torch.isfinite(total)
    assert float(box_loss(torch.zeros(0, 6), torch.zeros(0, 6), torch.zeros(0, 6), torch.zeros(0, 6))) == 0


def test_nothing_sampled_is_no_loss_at_all():
    """A patch that is ignored all over."""
    batch = replace(sampled(()), objectness=torch.zeros(0, requires_grad=True), is_object=torch.zeros(0))
    batch = replace(
        batch, class_logits=torch.zeros(0, 3, requires_grad=True), true_classes=torch.zeros(0, dtype=torch.long)
    )
    loss = DetectionLoss("learned")
    loss(batch).backward()
    assert loss.terms["objectness"] == loss.terms["class"] == 0
    assert all(torch.isfinite(p.grad) for p in loss.parameters())


def test_weights_are_fixed_or_learned():
    batch = sampled()
    one = DetectionLoss({term: float(term == "mask") for term in TERMS})
    assert one(batch).item() == pytest.approx(one.terms["mask"])
    learned = DetectionLoss("learned", region=TverskyLoss(sigmoid=True, soft_label=True))
    optimizer = torch.optim.SGD(learned.parameters(), 0.05)
    for _ in range(400):
        optimizer.zero_grad()
        learned(batch).backward()
        optimizer.step()
    # the optimum of exp(-s) L + s is s = log L
    for name, s in learned.log_variance.items():
        assert s.item() == pytest.approx(torch.tensor(learned.terms[name]).log().item(), abs=0.05)
    with pytest.raises(ValueError, match="objectness, anchor_box"):
        DetectionLoss({"masks": 1.0})
