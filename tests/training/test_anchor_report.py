"""How many objects an anchor can reach is told, and better sizes where it is too few."""

from __future__ import annotations

import logging

import pytest
import torch
from ignite.engine import Engine

from medseg.boxes.anchors import anchors_of_level
from medseg.boxes.overlap import iou_matrix
from medseg.networks import MaskRCNN
from medseg.networks.truth import truth_of
from medseg.training import AnchorReport


def epoch(anchors, caplog) -> AnchorReport:
    labels = torch.zeros(48, 48, 48, dtype=torch.int16)
    labels[2:12, 3:13, 5:15] = 1
    labels[20:29, 22:34, 9:20] = 2
    truth = truth_of(labels, torch.tensor([-1, 0, 0]), torch.tensor([0, 0, 0]))
    report = AnchorReport(MaskRCNN(1, 1, anchors, (4, 4, 4), channels=4, fine_channels=2))
    engine = Engine(lambda engine, batch: {"label": [truth]})
    report.attach(engine)
    with caplog.at_level(logging.INFO, "medseg.training.anchor_report"):
        engine.run([0], max_epochs=2)
    return report


def test_fitting_anchors_reach_everything(caplog):
    report = epoch([[[10, 10, 10]], [[20, 20, 20]]], caplog)
    assert report.recall == {0.3: 1.0, 0.5: 1.0}
    assert "of 2 objects" in caplog.text
    assert "better" not in caplog.text


def test_bad_ones_are_told_with_better_sizes(caplog):
    report = epoch([[[3, 3, 3]], [[40, 40, 40]]], caplog)
    anchors = torch.cat(
        [
            anchors_of_level((24, 24, 24), (2, 2, 2), torch.tensor([[3.0, 3, 3]])),
            anchors_of_level((12, 12, 12), (4, 4, 4), torch.tensor([[40.0, 40, 40]])),
        ]
    )
    ten = torch.tensor([[20.0, 20, 20, 30, 30, 30]])
    assert iou_matrix(ten, anchors).max() < 0.3  # as they really lie
    assert report.recall == {0.3: 0.0, 0.5: 0.0}
    assert "better, voxels: [[[10," in caplog.text


@pytest.mark.parametrize("anchors", [[[], [[10, 10, 10]]]])
def test_levels_without_anchors_are_left_out(anchors, caplog):
    assert epoch(anchors, caplog).recall[0.3] == 1.0
