"""What stands behind a label in a batch's target."""

from __future__ import annotations

import torch
from monai.data.meta_tensor import MetaTensor

from medseg.training.targets import Targets

IMAGE, LABEL, DOUBT = torch.rand(2, 1, 3, 4, 5), torch.randint(0, 3, (2, 1, 3, 4, 5)).byte(), torch.rand(2, 1, 3, 4, 5)
BATCH = {"image": MetaTensor(IMAGE), "label": MetaTensor(LABEL), "doubt": MetaTensor(DOUBT)}


def teacher(images):
    return torch.cat([images, 1 - images], 1)


def test_a_label_alone_is_handed_on_as_it_is():
    images, target = Targets()(BATCH, "cpu")
    assert torch.equal(images, IMAGE)
    assert torch.equal(target, LABEL)
    assert target.dtype == torch.uint8
    assert not isinstance(images, MetaTensor)


def test_doubt_and_the_teacher_stand_behind_the_label():
    images, target = Targets(doubt=True, teacher=teacher)(BATCH, "cpu", non_blocking=True)
    assert torch.equal(target, torch.cat([LABEL.float(), DOUBT, IMAGE, 1 - IMAGE], 1))
    assert target.dtype == torch.float32
    assert torch.equal(images, IMAGE)
